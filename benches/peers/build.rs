//! Makes Rust of the compiled interface. Needs no `capnp` program: the compiled form is kept beside its source.

fn main() {
    println!("cargo::rerun-if-changed=echo.cgr");
    let request = std::fs::File::open("echo.cgr").expect("echo.cgr is part of the repository");
    capnpc::codegen::CodeGenerationCommand::new()
        .default_parent_module(vec!["capnproto".into()])
        .output_directory(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"))
        .run(request)
        .expect("the compiled interface is well formed");
}
