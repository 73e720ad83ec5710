use std::process::Command;

use crate::{read, tracked};

const PROGRAMS: [&str; 2] = ["registry", "sidecar"];

/// The image's own stage, as it stands in the file.
fn last_stage(dockerfile: &str) -> &str {
    let start = dockerfile.find("\nFROM scratch\n").expect("a stage from scratch");
    &dockerfile[start + 1..]
}

/// The Dockerfile that scripts/images builds where the binaries are there already.
fn prebuilt(program: &str) -> String {
    let script = containers::root().join("scripts/images");
    let output = Command::new(script).args(["--print", program]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn from_source_and_from_binaries_the_image_is_the_same() {
    for program in PROGRAMS {
        let (source, prebuilt) = (read(&format!("{program}/Dockerfile")), prebuilt(program));
        assert_eq!(last_stage(&source), last_stage(&prebuilt), "{program}");
        assert_eq!(
            source.matches("\nFROM ").count(),
            2,
            "{program}: one stage makes files, the other the image"
        );
        assert!(prebuilt.starts_with("FROM scratch AS files\nCOPY files /files\n"), "{prebuilt}");
        // What the image takes is what the stage from source has made.
        for line in last_stage(&source).lines().filter(|line| line.starts_with("COPY")) {
            let from = line.split_whitespace().find(|word| word.starts_with("/files/")).expect(line);
            assert!(source.contains(&format!(" {from}/")), "{line}");
        }
    }
}

#[test]
fn the_image_is_small_and_closed() {
    for program in PROGRAMS {
        let source = read(&format!("{program}/Dockerfile"));
        let stage = last_stage(&source);
        for line in [
            "USER 65532:65532".to_owned(),
            format!("ENTRYPOINT [\"/{program}\"]"),
            "STOPSIGNAL SIGTERM".to_owned(),
        ] {
            assert!(stage.lines().any(|other| other == line), "{program}: {line}");
        }
        assert!(stage.contains(&format!("CMD [\"/{program}\", \"healthcheck\"]")), "{program}");
        assert!(source.contains("/files/root/etc/ssl/certs/ca-certificates.crt"), "{program}: CA roots");
        assert!(!stage.contains("\nRUN "), "{program}: there is no shell");
        assert!(!stage.contains("\nVOLUME"), "{program}: each container would leave a volume behind");
    }
}

#[test]
fn the_image_for_building_has_the_pinned_version_of_rust() {
    let toolchain = read("rust-toolchain.toml");
    let version = toolchain.split('"').nth(1).unwrap();
    for program in PROGRAMS {
        let source = read(&format!("{program}/Dockerfile"));
        assert!(source.contains(&format!("\nARG RUST_IMAGE=rust:{version}-slim-")), "{program}");
        assert!(source.contains(&format!("\nENV RUSTUP_TOOLCHAIN={version}\n")), "{program}");
    }
}

/// The context has what the workspace needs, and nothing that is secret or large.
#[test]
fn the_context_of_a_build_is_the_source_alone() {
    let ignore = read(".dockerignore");
    let lines: Vec<_> = ignore.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert_eq!(lines[0], "*", "first everything is left out");
    let let_in: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix('!')).collect();
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find(|line| line.starts_with("members")).unwrap();
    for member in members.split('"').skip(1).step_by(2).chain(["migrations", "Cargo.lock", "scripts/dist"]) {
        assert!(let_in.contains(&member), "{member} is needed");
    }
    for path in let_in {
        let is_tracked = tracked().iter().any(|file| file.starts_with(path));
        assert!(is_tracked, "{path}: nothing of it is in the tree");
    }
}
