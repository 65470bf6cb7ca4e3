#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::host::run(data));
