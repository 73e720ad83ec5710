//! A link inside the tree leads somewhere.

use std::{
    ffi::OsStr,
    path::{Component, Path, PathBuf},
};

use crate::{markdown::Document, support::root};

/// Every Markdown file, from the top of the tree.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![PathBuf::new()];
    while let Some(dir) = left.pop() {
        for entry in root().join(&dir).read_dir().unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && !name.starts_with('.') && !["target", "dist"].contains(&name.as_str()) {
                left.push(dir.join(name));
            } else if kind.is_file() && Path::new(&name).extension() == Some(OsStr::new("md")) {
                found.push(dir.join(name));
            }
        }
    }
    found
}

/// Without `.` and `..`; `None` when it leaves the tree.
fn tidy(path: &Path) -> Option<PathBuf> {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                if !tidy.pop() {
                    return None;
                }
            }
            Component::Normal(part) => tidy.push(part),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(tidy)
}

#[test]
fn every_relative_link_leads_to_a_file_and_every_fragment_to_a_heading() {
    let documents: Vec<_> = documents().into_iter().map(Document::read).collect();
    assert!(documents.len() >= 8, "{} documents", documents.len());
    let mut wrong = Vec::new();
    let mut checked = 0;
    for document in &documents {
        for (line, target) in &document.links {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            let path = match path {
                "" => Some(document.path.clone()),
                path => tidy(&document.path.parent().unwrap().join(path)),
            };
            let there = path.is_some_and(|path| {
                root().join(&path).exists()
                    && (fragment.is_empty()
                        || documents.iter().any(|one| one.path == path && one.anchors.contains(fragment)))
            });
            if !there {
                wrong.push(format!("{}:{line}: {target}", document.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
    assert!(checked >= 20, "only {checked} links were found");
}
