//! The code in src/proto is what proto/*.proto give. `make proto` renews it.
use std::{env, fs, path::Path};

#[test]
fn generated_code_is_current() {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (proto, committed) = (engine.join("../../proto"), engine.join("src/proto"));
    let renewed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proto");
    fs::create_dir_all(&renewed).unwrap();
    // Of etcd this is a client only.
    for (names, server) in [(&["peer.proto", "kamacache.proto"][..], true), (&["etcd.proto"], false)] {
        let files = protox::compile(names.iter().map(|name| proto.join(name)), [&proto]).unwrap();
        let mut config = tonic_prost_build::Config::new();
        config.bytes(["."]);
        tonic_prost_build::configure()
            .build_server(server)
            .out_dir(&renewed)
            .compile_fds_with_config(files, config)
            .unwrap();
    }
    let mut names = 0;
    for file in fs::read_dir(&renewed).unwrap() {
        let file = file.unwrap();
        let (text, place) = (fs::read_to_string(file.path()).unwrap(), committed.join(file.file_name()));
        if env::var_os("KAMACACHE_RENEW").is_some() {
            fs::write(&place, text).unwrap();
        } else {
            assert!(
                fs::read_to_string(&place).is_ok_and(|old| old == text),
                "{} is not what proto/ gives: run `make proto`",
                place.display()
            );
        }
        names += 1;
    }
    assert_eq!(names, 3);
}
