//! The command line, as the command's own help tells it. May not: know a command by name.

use std::collections::BTreeMap;

use regatta_tests::command::Data;

/// What the help says, asked once a command.
#[derive(Default)]
pub(crate) struct Commands {
    known: BTreeMap<Vec<String>, String>,
}

impl Commands {
    /// The help of the command at this path; it ends with 0.
    pub(crate) fn help(path: &[String], flag: &str) -> String {
        let data = Data::new();
        let words = path.iter().map(String::as_str).chain([flag]);
        // The width is that of no terminal, so that nobody's own changes it.
        data.run(words).expect(0).out
    }

    fn long_help(&mut self, path: &[String]) -> &str {
        self.known
            .entry(path.to_vec())
            .or_insert_with(|| Self::help(path, "--help"))
    }

    /// Commands below a command.
    fn below(&mut self, path: &[String]) -> Vec<String> {
        let help = self.long_help(path);
        let Some((_, rest)) = help.split_once("\nCommands:\n") else {
            return Vec::new();
        };
        let lines = rest.lines().take_while(|line| !line.is_empty());
        lines
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect()
    }

    /// Every command by its path, the program itself first.
    pub(crate) fn all(&mut self) -> Vec<Vec<String>> {
        let mut all = vec![Vec::new()];
        let mut at = 0;
        while let Some(path) = all.get(at).cloned() {
            at += 1;
            for name in self.below(&path) {
                all.push([path.clone(), vec![name]].concat());
            }
        }
        all
    }

    /// Whether these words name a command and flags that it has.
    pub(crate) fn check(&mut self, words: &[String]) -> Result<(), String> {
        let mut path: Vec<String> = Vec::new();
        for word in words {
            let below = self.below(&path);
            if below.is_empty() || word.starts_with('-') {
                break;
            }
            if !below.contains(word) {
                return Err(format!("there is no command {word}"));
            }
            path.push(word.clone());
        }
        let help = self.long_help(&path);
        let flags = words.iter().take_while(|word| *word != "--");
        for flag in flags.filter(|word| word.starts_with('-')) {
            let flag = flag
                .split(['=', '[', ']'])
                .next()
                .unwrap()
                .trim_end_matches(['.', ',', ')']);
            let mut known = help.split(|c: char| c.is_whitespace() || ",.=<[".contains(c));
            if !known.any(|word| word == flag) {
                return Err(format!("{} --help has no {flag}", path.join(" ")));
            }
        }
        Ok(())
    }
}
