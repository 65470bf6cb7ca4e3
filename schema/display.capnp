@0xd3c0de0100000009;
# What a display shows to people, and what people do with keyboard and mouse. Both lie in shared memory, in the layout of
# these structs' data sections.

enum Format { invalid @0; xrgb8888 @1; }   # a 32-bit little-endian word for each pixel: unused, red, green, blue

struct Scanout {
  # The first bytes of a scanout's region. Pixels begin at byte 4096, row after row, `stride` bytes apart.
  generation @0 :UInt64;      # odd while a picture is drawn; goes on by two with each
  width @1 :UInt32;           # pixels
  height @2 :UInt32;
  stride @3 :UInt32;          # bytes
  format @4 :Format;
}

enum InputKind { invalid @0; press @1; release @2; pointer @3; }

struct Input {
  # One thing that a person did: a record in the byte stream of whoever has the keyboard and the mouse.
  kind @0 :InputKind;
  key @1 :UInt16;             # `press`, `release`: its number in the keyboard page of the USB HID usage tables
  dx @2 :Int8;                # `pointer`: to the right
  dy @3 :Int8;                # down
  wheel @4 :Int8;             # towards the person
  buttons @5 :UInt8;          # bits of those that are down: 1 left, 2 right, 4 middle
}
