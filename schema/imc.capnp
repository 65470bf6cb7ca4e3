@0xd3c0de0100000001;
# What every IMC message shares: its number, and the table that describes the descriptors which travel with it.

annotation message @0xd3c0de0100000007 (struct) :UInt16;
# The struct is a message, and this is the ordinal in its datagram's header: never 0, never used again.

enum Kind {
  # The kind of kernel object behind a descriptor. A receiver derives it from the kernel and
  # compares; the word on the wire is only a claim.
  invalid @0;
  region @1;     # sealed memfd
  wake @2;       # eventfd
  file @3;       # regular file or block device, opened afresh for its holder
  stream @4;     # end of a pipe
  channel @5;    # SOCK_SEQPACKET end; only in the bootstrap, by inheritance
  connect @6;    # connect capability
  tap @7;
  kvm @8;        # /dev/kvm; only ever sent to the VMM
  packets @9;    # SOCK_SEQPACKET end that carries data alone, never descriptors
  socket @10;    # connected unix stream socket; only ever sent to a net relay
  listener @11;  # TCP socket that listens on a loopback address; only ever sent to a display relay
}

struct Handle {
  # One descriptor of the datagram. `slot` is its index; each slot is named exactly once.
  slot @0 :UInt8;
  kind @1 :Kind;
  rights @2 :UInt32;   # bits: 1 read, 2 write, 4 map, 8 signal, 16 wait, 32 frozen
  size @3 :UInt64;     # bytes; regions only
}

struct Refusal $message(0x01) {
  # The body of an error reply: the peer understood and declined.
  reason @0 :Text;
}

struct Empty $message(0x02) {}

struct Connection $message(0x03) {
  # Event, over a connect capability alone: here is an end of a new channel. The one message that carries an end.
  end @0 :Handle;
}

struct Lease {
  # A buffer of one call: part of a region that the callee holds. It ends with the reply.
  region @0 :UInt64;   # the callee's own key of it
  offset @1 :UInt64;
  length @2 :UInt64;
  rights @3 :UInt32;   # bits as in `Handle`: read, write
}
