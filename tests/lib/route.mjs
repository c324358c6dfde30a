// Preloaded (node --import) into a program that insists on a hub's public name and well-known ports: connections go to the
// hub's own ports on loopback, as a router would see to it. ROOST_ROUTES is { "name:port": { host, port } } in JSON.
import dns from 'node:dns';
import net from 'node:net';

const routes = JSON.parse(process.env.ROOST_ROUTES ?? '{}');
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...args) {
  const list = Array.isArray(args[0]) ? args[0] : args; // net.connect and tls.connect hand over one normalized array
  const route = list[0] && typeof list[0] === 'object' && routes[`${list[0].host}:${list[0].port}`];
  if (!route) return connect.apply(this, args);
  const there = { ...list[0], ...route };
  if (!Array.isArray(args[0])) return connect.call(this, there, ...args.slice(1));
  const copy = Object.assign([...args[0]], { 0: there });
  for (const s of Object.getOwnPropertySymbols(args[0])) copy[s] = args[0][s];
  return connect.call(this, copy);
};
const lookup = dns.lookup; // *.localhost is loopback (RFC 6761), also where the resolver does not know it
dns.lookup = (name, ...rest) => lookup(/\.localhost$/.test(name) ? '127.0.0.1' : name, ...rest);
