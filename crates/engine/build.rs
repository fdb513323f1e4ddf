//! Compiles the .proto files with protox: no protoc needed.
use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", proto.display());
    // Of etcd we are a client only.
    for (names, server) in [(&["peer.proto", "kamacache.proto"][..], true), (&["etcd.proto"], false)] {
        let files = protox::compile(names.iter().map(|name| proto.join(name)), [&proto])?;
        let mut config = tonic_prost_build::Config::new();
        config.bytes(["."]);
        tonic_prost_build::configure()
            .build_server(server)
            .compile_fds_with_config(files, config)?;
    }
    Ok(())
}
