//! A page in Markdown: its blocks, links, tables and the commands that it shows. May not: know what is true.

use std::path::{Path, PathBuf};

use regatta_tests::command::root;

/// A page by its path from the repository's root.
pub(crate) struct Page {
    pub(crate) name: String,
    /// Everything but fenced blocks.
    prose: String,
    /// Fenced blocks: their language, their lines.
    blocks: Vec<(String, String)>,
}

impl Page {
    /// README.md and every page of ops/docs.
    pub(crate) fn all() -> Vec<Self> {
        let mut names = vec!["README.md".to_owned()];
        for entry in std::fs::read_dir(root().join("ops/docs")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if Path::new(&name)
                .extension()
                .is_some_and(|extension| extension == "md")
            {
                names.push(format!("ops/docs/{name}"));
            }
        }
        names.sort();
        names.iter().map(|name| Self::read(name)).collect()
    }

    pub(crate) fn read(name: &str) -> Self {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        let mut page = Self {
            name: name.to_owned(),
            prose: String::new(),
            blocks: Vec::new(),
        };
        let mut fenced = false;
        for line in text.lines() {
            match line.strip_prefix("```") {
                Some(_) if fenced => fenced = false,
                Some(language) => {
                    fenced = true;
                    page.blocks.push((language.to_owned(), String::new()));
                }
                None => {
                    let into = match page.blocks.last_mut().filter(|_| fenced) {
                        Some((_, block)) => block,
                        None => &mut page.prose,
                    };
                    into.push_str(line);
                    into.push('\n');
                }
            }
        }
        assert!(!fenced, "{name}: a block is not closed");
        page
    }

    /// Targets of links but for other sites.
    pub(crate) fn links(&self) -> Vec<String> {
        let ends = self.prose.split("](").skip(1);
        ends.filter_map(|rest| rest.split_once(')'))
            .map(|(target, _)| target.to_owned())
            .filter(|target| !target.contains("://"))
            .collect()
    }

    /// Where a link leads, from the repository's root; none: within this page.
    pub(crate) fn follow(&self, link: &str) -> Result<Option<String>, String> {
        let (path, heading) = link.split_once('#').unwrap_or((link, ""));
        let found = if path.is_empty() {
            self.name.clone()
        } else {
            let beside = Path::new(&self.name).parent().unwrap().join(path);
            let full = root().join(&beside);
            let full = full
                .canonicalize()
                .map_err(|error| format!("{}: {error}", beside.display()))?;
            let real: PathBuf = root().canonicalize().unwrap();
            let inside = full
                .strip_prefix(&real)
                .map_err(|_| "it leaves the repository".to_owned())?;
            inside.display().to_string()
        };
        if !heading.is_empty() && !Self::read(&found).headings().contains(&heading.to_owned()) {
            return Err(format!("{found} has no heading {heading}"));
        }
        Ok(Some(found).filter(|_| !path.is_empty()))
    }

    /// Headings as links name them.
    fn headings(&self) -> Vec<String> {
        let headings = self.prose.lines().filter(|line| line.starts_with('#'));
        headings
            .map(|line| {
                line.trim_start_matches('#')
                    .trim()
                    .to_lowercase()
                    .replace(' ', "-")
                    .chars()
                    .filter(|c| c.is_alphanumeric() || "-_".contains(*c))
                    .collect()
            })
            .collect()
    }

    /// Blocks of YAML that are whole matrices.
    pub(crate) fn matrices(&self) -> Vec<&str> {
        let has = |block: &str, key: &str| block.lines().any(|line| line.starts_with(key));
        self.blocks
            .iter()
            .filter(|(language, block)| {
                language == "yaml"
                    && (has(block, "name:") || has(block, "image:"))
                    && has(block, "test:")
            })
            .map(|(_, block)| block.as_str())
            .collect()
    }

    /// Rows of tables whose text begins so, as cells; without rows of dashes.
    pub(crate) fn rows(&self, begin: &str) -> Vec<Vec<String>> {
        let rows = self.prose.lines().filter_map(|line| {
            let row = line.strip_prefix("| ")?.strip_suffix('|')?;
            (row.starts_with(begin) && !row.starts_with("---")).then_some(row)
        });
        rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect())
            .collect()
    }

    /// The words of every `regatta ...`, in blocks and between backticks, without `regatta` itself.
    pub(crate) fn commands(&self) -> Vec<Vec<String>> {
        let blocks = self.blocks.iter().flat_map(|(_, block)| block.lines());
        let blocks = blocks.map(|line| line.split(" #").next().unwrap().to_owned());
        let quoted = quoted(&self.prose)
            .into_iter()
            .map(|text| text.replace('\n', " "));
        blocks
            .chain(quoted)
            .flat_map(|line| {
                let parts: Vec<Vec<String>> = line
                    .split(['|', ';', '&'])
                    .filter_map(words_after_regatta)
                    .collect();
                parts
            })
            .collect()
    }
}

/// Texts between backticks.
pub(crate) fn quoted(text: &str) -> Vec<String> {
    let parts = text.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

fn words_after_regatta(command: &str) -> Option<Vec<String>> {
    let mut words = command
        .split_whitespace()
        .skip_while(|word| matches!(*word, "$" | "sudo") || is_setting(word));
    if words.next() != Some("regatta") {
        return None;
    }
    let words: Vec<String> = words.map(str::to_owned).collect();
    // `regatta` alone is the program's name.
    (!words.is_empty()).then_some(words)
}

/// `NAME=VALUE` before a command.
fn is_setting(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c == '_' || c.is_ascii_uppercase())
    })
}
