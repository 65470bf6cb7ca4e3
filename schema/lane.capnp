@0xd3c0de0100000002;
# The access plane. On the `memory` carrier an entry is the 64 bytes of `Access`'s data section, in this layout.

enum Operation {
  invalid @0;
  read @1;
  write @2;
  post @3;       # a write whose writer does not wait
  alarm @4;      # the device's committed deadline has passed
  reset @5;      # back to the state after power on
  quiesce @6;    # finish what is under way, start nothing
  shutdown @7;   # leave
  button @8;     # the operator pressed the power button
}

struct Access {
  sequence @0 :UInt32;      # of this lane, one more each time; stored last
  operation @1 :Operation;
  range @2 :UInt8;          # index into the manifest's ranges
  width @3 :UInt8;          # bytes: 1, 2, 4 or 8
  offset @4 :UInt64;        # from the start of the range
  value @5 :UInt64;         # what is written; zero for reads
  now @6 :UInt64;           # guest clock in nanoseconds since power on
  reserved0 @7 :UInt64;
  reserved1 @8 :UInt64;
  reserved2 @9 :UInt64;
  reserved3 @10 :UInt64;
}

struct Answer {
  # The reply on carriers that send messages.
  sequence @0 :UInt32;
  known @1 :Bool;           # false: no register there; reads are ones
  value @2 :UInt64;
}
