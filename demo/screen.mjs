// The demo's screen: a live table on a terminal, plain lines elsewhere, and a picture of the last frame as SVG.
import { writeFileSync } from 'node:fs';

const style = { bold: '1', dim: '2', red: '31', green: '32', yellow: '33', blue: '34', cyan: '36' };
const paint = (name, text) => ({ text, name });
const bar = (share, width) => '█'.repeat(Math.round(share * width)).padEnd(width, '░');

const states = {
  CONFIRMED: ['green', '✓ confirmed'], ROLLED_BACK: ['red', '↩ rolled back'], PROBATION: ['yellow', '… on trial'], REBOOTING: ['yellow', '⟳ rebooting'],
  ACTIVATING: ['yellow', '⟳ activating'], STAGED: ['yellow', '▪ staged'], OFFERED: ['cyan', '→ offered'], ACCEPTED: ['cyan', '→ accepted'],
  FAILED: ['red', '✗ failed'], LOST: ['red', '? lost'], REJECTED: ['red', '✗ rejected'], SKIPPED: ['green', '✓ has it'], ELIGIBLE: ['dim', '· waiting'],
};

export class Screen {
  constructor({ live, picture }) {
    this.live = live;
    this.picture = picture;
    this.started = Date.now();
    this.commands = [];
    this.title = '';
    this.rows = [];
    this.footer = [];
    this.count = 0;
    if (live) process.stdout.write('\x1b[?25l\x1b[2J');
  }

  seconds() { return ((Date.now() - this.started) / 1000).toFixed(1).padStart(5); }

  phase(text) {
    this.title = text;
    if (!this.live) console.log(`[${this.seconds()} s] ${text}`);
    this.draw();
  }

  command(text) {
    this.commands.push(text);
    if (!this.live) console.log(`          $ ${text}`);
    this.draw();
  }

  note(text) {
    this.commands.push(`! ${text}`);
    if (!this.live) console.log(`          ! ${text}`);
    this.draw();
  }

  table(devices, count) {
    this.rows = devices;
    this.count = count;
    this.draw();
  }

  deviceLine(d) {
    const version = d.report?.version ?? '—';
    const link = d.connected ? paint('green', '●') : d.report ? paint('dim', '○') : paint('dim', '◌');
    let [color, text] = states[d.deployment?.state] ?? ['dim', d.report?.state?.toLowerCase() ?? 'blank'];
    if (d.deployment?.state === 'DOWNLOADING') {
      const total = d.deployment.bytesTotal || 1;
      [color, text] = ['blue', `${bar(Math.min(1, (d.deployment.bytesDone ?? 0) / total), 10)} ↓`];
    }
    if (d.deployment?.state === 'ROLLED_BACK' && d.deployment.reason) text += ` (${d.deployment.reason})`;
    const b = d.telemetry?.body ?? {};
    const temp = b.temperature === undefined ? '' : `${Number(b.temperature).toFixed(1)} °C`;
    const battery = b.battery === undefined ? '' : `${Math.round(b.battery)} %`;
    return [link, ' ', d.id.padEnd(11), (d.hardware ?? '').replace(/:\d+$/, '').padEnd(11), paint(version === '—' ? 'dim' : 'bold', version.padEnd(7)),
      paint(color, text.padEnd(26)), temp.padStart(8), battery.padStart(8), paint('dim', `${d.telemetry?.nr ?? 0}`.padStart(6))];
  }

  frame() {
    const lines = [];
    lines.push([paint('bold', 'Roost'), paint('dim', `  ${this.seconds()} s   ${this.rows.filter((d) => d.connected).length} connected   ${this.count} messages`)]);
    lines.push([paint('cyan', this.title)]);
    lines.push([]);
    if (this.rows.length) {
      lines.push([paint('dim', `  ${'device'.padEnd(11)}${'hardware'.padEnd(11)}${'runs'.padEnd(7)}${'update'.padEnd(26)}${'temp'.padStart(8)}${'battery'.padStart(8)}${'msgs'.padStart(6)}`)]);
      for (const d of this.rows) lines.push(this.deviceLine(d));
    }
    lines.push([]);
    if (!this.footer.length) for (const c of this.commands.slice(-3)) lines.push([paint('dim', `$ ${c}`.slice(0, 100))]);
    return [...lines, ...this.footer];
  }

  draw() {
    if (!this.live || (this.drawn && Date.now() - this.drawn < 30)) return;
    this.drawn = Date.now();
    this.paintNow();
  }

  paintNow() {
    const ansi = (part) => (typeof part === 'string' ? part : `\x1b[${style[part.name]}m${part.text}\x1b[0m`);
    process.stdout.write(`\x1b[H${this.frame().map((l) => `${l.map(ansi).join('')}\x1b[K`).join('\n')}\n\x1b[J`);
  }

  summary(facts, failed) {
    this.title = failed ? 'The story broke' : facts.every((f) => f.holds) ? 'All of it is true' : 'Not all of it is true';
    this.footer = facts.map((f) => [f.holds ? paint('green', '✓ ') : paint('red', '✗ '), f.text]);
    if (failed) this.footer.push([paint('red', `✗ ${failed.message}`)]);
    if (this.live) this.paintNow();
    else for (const l of this.footer) console.log(l.map((p) => (typeof p === 'string' ? p : p.text)).join(''));
    if (!this.live) console.log(`${this.title}, after ${this.seconds().trim()} s`);
    if (this.picture) this.keep();
    this.end();
  }

  next(commands) {
    this.footer.push([], [paint('bold', 'The hub stays up until Ctrl-C. In another terminal:')], ...commands.map((c) => [`  ${c}`]));
    if (this.live) this.paintNow();
    else for (const c of commands) console.log(`  ${c}`);
  }

  end() {
    if (this.live) process.stdout.write('\x1b[?25h');
  }

  keep() {
    const colors = { bold: '#f5f7fa', dim: '#7f8c9b', red: '#ff6b6b', green: '#51cf66', yellow: '#fcc419', blue: '#4dabf7', cyan: '#66d9e8' };
    const escape = (t) => t.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
    const lines = this.frame();
    const text = lines.map((l, i) => `<text x="16" y="${28 + i * 18}" xml:space="preserve">${l.map((p) => (typeof p === 'string' ? `<tspan>${escape(p)}</tspan>`
      : `<tspan fill="${colors[p.name]}"${p.name === 'bold' ? ' font-weight="bold"' : ''}>${escape(p.text)}</tspan>`)).join('')}</text>`).join('\n');
    writeFileSync(this.picture, `<svg xmlns="http://www.w3.org/2000/svg" width="860" height="${40 + lines.length * 18}" font-family="ui-monospace, 'DejaVu Sans Mono', monospace" font-size="13" fill="#d6dde6">
<rect width="100%" height="100%" rx="8" fill="#151b23"/>
${text}
</svg>
`);
  }
}
