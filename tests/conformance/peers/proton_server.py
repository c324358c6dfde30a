# tests/conformance/peers/proton_server.py - a server of Qpid Proton on a free loopback port, for amqp_client.test.mjs. What it
# does with a link or message, the address says; it prints its port, then a line of JSON for everything that came.
# Its SASL has ANONYMOUS alone: Debian builds it without a library for more.
import json
from proton import Condition, Delivery, Message, symbol
from proton.handlers import MessagingHandler
from proton.reactor import Container


def say(*what):
    print(json.dumps(what), flush=True)


def pattern(n):
    return bytes((i * 7 + (i >> 8)) & 255 for i in range(n))


def plain(m):
    return {str(k): v for k, v in (m or {}).items()}


class Server(MessagingHandler):
    def __init__(self):
        super().__init__(prefetch=0, auto_accept=False)

    def on_start(self, event):
        a = event.container.listen('127.0.0.1:0')
        say('port', a._selectable._delegate.getsockname()[1])

    def on_connection_bound(self, event):
        event.transport.max_frame_size = 600
        event.transport.sasl().allowed_mechs('ANONYMOUS')

    def on_connection_opening(self, event):
        event.connection.container = 'proton'
        say('open', event.transport.sasl().mech, event.connection.remote_container, event.connection.remote_hostname)

    def on_link_opening(self, event):
        link = event.link
        remote = link.remote_source if link.is_sender else link.remote_target
        link.left = [(1, 'one'), (100000, 'two'), (None, 'three'), (1, 'four'), (1, 'five')]
        say('sender' if link.is_sender else 'receiver', remote.address)
        if remote.address == 'refused':
            return
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        link.open()
        if link.is_receiver:
            link.flow(10)

    def on_link_local_open(self, event):
        link = event.link
        if 'refused' in (link.remote_target.address, link.remote_source.address):
            link.condition = Condition('amqp:not-found', 'no such thing')
            link.close()

    def on_message(self, event):
        m, d, address = event.message, event.delivery, event.link.remote_target.address
        body = m.body
        if isinstance(body, (bytes, memoryview)):
            body = 'data %d%s' % (len(body), '' if bytes(body) == pattern(len(body)) else ' damaged')
        say('message', address, bool(d.settled), m.durable, m.priority, round(m.ttl * 1000), m.delivery_count, plain(m.instructions),
            plain(m.annotations), m.id, int(m.correlation_id), bytes(m.user_id).decode(), m.address, m.subject, m.reply_to, str(m.content_type),
            str(m.content_encoding), round(m.creation_time * 1000), m.group_id, plain(m.properties), body)
        if address == 'reject':
            d.local.condition = Condition('amqp:not-allowed', 'no thanks')
        if not d.settled:
            d.update({'reject': Delivery.REJECTED, 'release': Delivery.RELEASED, 'modify': Delivery.MODIFIED}.get(address, Delivery.ACCEPTED))
        d.settle()
        ends = {'detach': event.link, 'end': event.session, 'close': event.connection}.get(address)
        if ends:
            ends.condition = Condition('amqp:internal-error', 'it is over')
            ends.close()

    def on_sendable(self, event):
        link = event.link
        while link.credit and link.left:
            n, name = link.left.pop(0)
            link.send(Message(id=name, subject='down', annotations={symbol('x-opt-a'): 'b'}, properties={'k': name},
                              body='a value' if n is None else pattern(n), inferred=True))

    def on_link_flow(self, event):
        link = event.link
        if link.is_sender and link.drain_mode:
            self.on_sendable(event)
            link.drained()

    def on_accepted(self, event):
        say('outcome', 'accepted')

    def on_rejected(self, event):
        c = event.delivery.remote.condition
        say('outcome', 'rejected', c.name, c.description)

    def on_released(self, event):
        say('outcome', 'released' if event.delivery.remote_state == Delivery.RELEASED else 'modified')

    def on_link_closed(self, event):
        say('closed link')

    def on_session_closed(self, event):
        say('closed session')

    def on_connection_closed(self, event):
        say('closed connection')

    def on_link_closing(self, event):
        say('closing link')

    def on_session_closing(self, event):
        say('closing session')

    def on_connection_closing(self, event):
        say('closing connection')


Container(Server()).run()
