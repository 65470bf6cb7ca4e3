//! Makes Rust of the compiled schema. Needs no `capnp` program: the compiled form is kept beside its source.

fn main() {
    println!("cargo::rerun-if-changed=schema/compiled/schema.cgr");
    let request = std::fs::File::open("schema/compiled/schema.cgr")
        .expect("schema/compiled/schema.cgr is part of the repository");
    capnpc::codegen::CodeGenerationCommand::new()
        .default_parent_module(vec!["wire".into()])
        .output_directory(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"))
        .run(request)
        .expect("the compiled schema is well formed");
}
