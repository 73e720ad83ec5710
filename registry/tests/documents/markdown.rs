//! A document, taken apart.

use std::{collections::HashSet, fs, path::PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::support::root;

/// A fenced block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// What stands behind the opening fence.
    pub(crate) info: String,
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A table; cells as they are written.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    /// The heading above it.
    pub(crate) under: String,
}

#[derive(Debug)]
pub(crate) struct Document {
    /// From the top of the tree.
    pub(crate) path: PathBuf,
    pub(crate) anchors: HashSet<String>,
    /// Line and target.
    pub(crate) links: Vec<(usize, String)>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) tables: Vec<Table>,
}

impl Document {
    pub(crate) fn read(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let text = fs::read_to_string(root().join(&path))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut document =
            Self { path, anchors: HashSet::new(), links: vec![], blocks: vec![], tables: vec![] };
        document.take_apart(&text);
        document
    }

    fn take_apart(&mut self, text: &str) {
        let line = |offset: usize| text[..offset].matches('\n').count() + 1;
        let (mut heading, mut under, mut code) = (None::<String>, String::new(), false);
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    under = heading.take().unwrap();
                    self.add_anchor(&under);
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    self.links.push((line(range.start), dest_url.into_string()));
                }
                Event::Start(Tag::CodeBlock(kind)) => {
                    let info = match kind {
                        CodeBlockKind::Fenced(info) => info.into_string(),
                        CodeBlockKind::Indented => "indented".to_owned(),
                    };
                    self.blocks.push(Block { info, text: String::new(), line: line(range.start) });
                    code = true;
                }
                Event::End(TagEnd::CodeBlock) => code = false,
                Event::Start(Tag::Table(_)) => {
                    self.tables.push(Table { head: vec![], rows: vec![], under: under.clone() });
                }
                Event::Start(Tag::TableRow) => self.tables.last_mut().unwrap().rows.push(vec![]),
                Event::Start(Tag::TableCell) => {
                    let cell = text[range].trim().trim_matches('|').trim().replace("\\|", "|");
                    let table = self.tables.last_mut().unwrap();
                    table.rows.last_mut().unwrap_or(&mut table.head).push(cell);
                }
                Event::Text(part) | Event::Code(part) => {
                    if code {
                        self.blocks.last_mut().unwrap().text.push_str(&part);
                    } else if let Some(heading) = &mut heading {
                        heading.push_str(&part);
                    }
                }
                _ => {}
            }
        }
    }

    /// As GitHub names it; the second of the same words gets `-1`.
    fn add_anchor(&mut self, heading: &str) {
        let kept = heading.to_lowercase();
        let kept: String = kept
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let mut anchor = kept.clone();
        let mut number = 0;
        while !self.anchors.insert(anchor.clone()) {
            number += 1;
            anchor = format!("{kept}-{number}");
        }
    }

    /// The one table whose first column has this head, under this heading.
    pub(crate) fn table(&self, under: &str, head: &str) -> &Table {
        let found: Vec<_> =
            self.tables.iter().filter(|table| table.under == under && table.head[0] == head).collect();
        let [table] = found[..] else {
            panic!("{}: {} tables '{head}' under '{under}'", self.path.display(), found.len())
        };
        table
    }
}

/// The texts between backquotes.
pub(crate) fn code(cell: &str) -> Vec<String> {
    let parser = Parser::new(cell);
    parser
        .filter_map(|event| if let Event::Code(text) = event { Some(text.into_string()) } else { None })
        .collect()
}
