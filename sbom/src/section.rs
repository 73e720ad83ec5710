//! The list inside the binary: the section `.dep-v0` that cargo-auditable defines, which scanners read.

use std::error::Error;

use auditable_serde::{DependencyKind, Package, Source, VersionInfo};
use miniz_oxide::deflate::compress_to_vec_zlib;

use crate::linked::{Linked, Part};

/// Of cargo-auditable's data sources: what macros and build scripts need is not taken for a part of the program.
const FORMAT: u32 = 1;

/// As small as it gets: a few kilobytes.
const LEVEL: u8 = 9;

pub(crate) fn bytes(linked: &Linked) -> Result<Vec<u8>, Box<dyn Error>> {
    let packages = linked.parts.iter().enumerate().map(|(place, part)| package(part, place == linked.root));
    let info = VersionInfo { packages: packages.collect::<Result<_, _>>()?, format: FORMAT };
    Ok(compress_to_vec_zlib(serde_json::to_string(&info)?.as_bytes(), LEVEL))
}

fn package(part: &Part, root: bool) -> Result<Package, Box<dyn Error>> {
    Ok(Package {
        name: part.package.name.to_string(),
        version: part.package.version.to_string().parse()?,
        source: match &part.package.source {
            None => Source::Local,
            Some(source) if source.is_crates_io() => Source::CratesIo,
            Some(_) => Source::Registry,
        },
        kind: DependencyKind::Runtime,
        dependencies: part.needs.iter().copied().collect(),
        root,
    })
}
