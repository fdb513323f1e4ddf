//! Compiles the .proto files with protox: no protoc needed.
use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", proto.display());
    let files = protox::compile([proto.join("peer.proto"), proto.join("kamacache.proto")], [&proto])?;
    let mut config = tonic_prost_build::Config::new();
    config.bytes(["."]);
    tonic_prost_build::configure().compile_fds_with_config(files, config)?;
    Ok(())
}
