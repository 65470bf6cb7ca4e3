# The interface that capnp-rpc is measured with. After a change: capnp compile -o- echo.capnp > echo.cgr
@0x9c1e6a37d25b40f8;

interface Echo {
  call @0 (there :Data) -> (back :Data);
}
