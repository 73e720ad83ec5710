//! What was linked, by what cargo said it compiled.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
    io::{BufReader, Read},
    path::Path,
};

use cargo_lock::Lockfile;
use cargo_metadata::{CargoOpt, DependencyKind, Message, Metadata, MetadataCommand, Package, PackageId};

/// A crate that is linked.
pub(crate) struct Part {
    /// Its manifest.
    pub(crate) package: Package,
    /// SHA-256 of what was downloaded, in hexadecimal digits; none for the crates of this workspace.
    pub(crate) checksum: Option<String>,
    /// Which others it calls, by their place in the list.
    pub(crate) needs: BTreeSet<usize>,
    /// The libraries in other languages that it brings, as its build script said: `static=sqlite3`.
    pub(crate) native: Vec<String>,
    /// Its features in this build.
    pub(crate) features: Vec<String>,
}

/// Everything that is linked into a binary.
pub(crate) struct Linked {
    /// The crates, by name and version.
    pub(crate) parts: Vec<Part>,
    /// The place of the binary's own.
    pub(crate) root: usize,
    /// The target.
    pub(crate) target: String,
}

/// What cargo said of one package.
#[derive(Default)]
struct Compiled {
    linked: bool,
    native: Vec<String>,
    features: Vec<String>,
}

impl Linked {
    pub(crate) fn read(messages: impl Read, target: &str, package: &str) -> Result<Self, Box<dyn Error>> {
        let metadata = MetadataCommand::new()
            .features(CargoOpt::AllFeatures)
            .other_options(["--locked", "--filter-platform", target].map(str::to_owned))
            .exec()?;
        let compiled = compiled(messages, &metadata.target_directory.join(target).into_std_path_buf())?;
        let lock = Lockfile::load(metadata.workspace_root.join("Cargo.lock"))?;
        let mut parts = Vec::new();
        for (id, said) in compiled.into_iter().filter(|(_, said)| said.linked) {
            let package = metadata.packages.iter().find(|package| package.id == id);
            let package = package.ok_or_else(|| format!("{id} was compiled, and cargo does not know it"))?;
            let checksum = checksum(&lock, package)?;
            let Compiled { native, features, .. } = said;
            parts.push(Part { package: package.clone(), checksum, needs: BTreeSet::new(), native, features });
        }
        parts.sort_by(|a, b| {
            (&a.package.name, &a.package.version).cmp(&(&b.package.name, &b.package.version))
        });
        connect(&mut parts, &metadata)?;
        let root = parts.iter().position(|part| part.package.name == package);
        let root = root.ok_or_else(|| format!("nothing of {package} was compiled for {target}"))?;
        Ok(Self { parts, root, target: target.to_owned() })
    }
}

/// Takes up what was compiled. What is linked lies in the target's own directory; macros and build scripts, and the
/// crates that these need, are compiled for the machine that builds and lie beside it.
fn compiled(messages: impl Read, for_target: &Path) -> Result<BTreeMap<PackageId, Compiled>, Box<dyn Error>> {
    let mut all: BTreeMap<PackageId, Compiled> = BTreeMap::new();
    for message in Message::parse_stream(BufReader::new(messages)) {
        match message? {
            Message::CompilerArtifact(artifact)
                if artifact.filenames.iter().any(|file| file.starts_with(for_target)) =>
            {
                let one = all.entry(artifact.package_id).or_default();
                one.linked = true;
                one.features = artifact.features;
            }
            Message::BuildScriptExecuted(script) if script.out_dir.starts_with(for_target) => {
                let libraries =
                    script.linked_libs.into_iter().map(cargo_metadata::camino::Utf8PathBuf::into_string);
                all.entry(script.package_id).or_default().native = libraries.collect();
            }
            _ => {}
        }
    }
    Ok(all)
}

fn checksum(lock: &Lockfile, package: &Package) -> Result<Option<String>, String> {
    if package.source.is_none() {
        return Ok(None);
    }
    let locked = lock.packages.iter().find(|locked| {
        locked.name.as_str() == package.name.as_str()
            && locked.version.to_string() == package.version.to_string()
    });
    let checksum = locked.and_then(|locked| locked.checksum.as_ref());
    let checksum = checksum.ok_or_else(|| format!("Cargo.lock has no checksum of {}", package.id))?;
    Ok(Some(checksum.to_string()))
}

/// Notes who calls whom. Cargo's answer is for the whole workspace, so between two crates that are both linked it may
/// name a dependency that only another binary has switched on; which crates there are does not depend on it.
fn connect(parts: &mut [Part], metadata: &Metadata) -> Result<(), Box<dyn Error>> {
    let places: BTreeMap<PackageId, usize> =
        parts.iter().enumerate().map(|(place, part)| (part.package.id.clone(), place)).collect();
    let resolve = metadata.resolve.as_ref().ok_or("cargo resolved nothing")?;
    for node in &resolve.nodes {
        let Some(&from) = places.get(&node.id) else { continue };
        let calls = |needed: &&cargo_metadata::NodeDep| {
            needed.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
        };
        parts[from].needs =
            node.deps.iter().filter(calls).filter_map(|needed| places.get(&needed.pkg).copied()).collect();
    }
    Ok(())
}

/// A library in C that a crate brings as source, and its version.
pub(crate) fn sqlite(part: &Part) -> Option<String> {
    if !part.native.iter().any(|library| library == "static=sqlite3") {
        return None;
    }
    let header = part.package.manifest_path.with_file_name("sqlite3").join("sqlite3.h");
    let header = fs::read_to_string(header).ok()?;
    let line = header.lines().find(|line| line.starts_with("#define SQLITE_VERSION "))?;
    line.split('"').nth(1).map(str::to_owned)
}
