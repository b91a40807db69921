//! The instructions that change only the image's configuration: ENV, LABEL, USER, ENTRYPOINT, CMD, SHELL,
//! EXPOSE, VOLUME, STOPSIGNAL. May not: make a layer.

use serde_json::{Value, json};

use super::parse::{Command, Instruction, Node, Word};
use super::stage::{Builder, Stage, history};
use super::{BuildError, stages};

/// Most ports that one range of EXPOSE stands for.
const PORTS_MOST: u16 = 1_000;

/// The shell where SHELL names none.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

impl Builder<'_> {
    pub(super) fn setting(&mut self, stage: &mut Stage, node: &Node) -> Result<(), BuildError> {
        match &node.what {
            Instruction::Env(pairs) => {
                // All values are of before the instruction.
                let pairs = self.pairs(stage, node, pairs)?;
                for (name, value) in pairs {
                    stage.draft.set_env(&name, &value);
                }
            }
            Instruction::Label(pairs) => {
                for (name, value) in self.pairs(stage, node, pairs)? {
                    stage.draft.put("Labels", &name, value.into());
                }
            }
            Instruction::User(word) => {
                let user = self.expand(stage, node, word)?;
                stage.draft.set("User", user.into());
            }
            Instruction::Entrypoint(command) => {
                let argv = argv(stage, command);
                stage.draft.set("Entrypoint", argv.into());
                // The base's arguments were for the base's program.
                if !stage.own_cmd {
                    stage.draft.unset("Cmd");
                }
            }
            Instruction::Cmd(command) => {
                let argv = argv(stage, command);
                stage.draft.set("Cmd", argv.into());
                stage.own_cmd = true;
            }
            Instruction::Shell(words) => stage.draft.set("Shell", words.clone().into()),
            Instruction::Expose(words) => {
                for word in words {
                    for port in self.ports(stage, node, word)? {
                        stage.draft.put("ExposedPorts", &port, json!({}));
                    }
                }
            }
            Instruction::Volume(words) => {
                for word in words {
                    let path = self.expand(stage, node, word)?;
                    stage.draft.put("Volumes", &path, json!({}));
                }
            }
            Instruction::StopSignal(word) => {
                let signal = self.expand(stage, node, word)?;
                stage.draft.set("StopSignal", Value::String(signal));
            }
            _ => {}
        }
        stage.draft.push_empty(&history(node));
        Ok(())
    }

    fn pairs(
        &self,
        stage: &Stage,
        node: &Node,
        pairs: &[(Word, Word)],
    ) -> Result<Vec<(String, String)>, BuildError> {
        let mut found = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            let name_text = self.expand(stage, node, name)?;
            if name_text.is_empty() || name_text.contains(['=', '\0']) {
                let message = format!("{name_text:?} cannot be a name");
                return Err(stages::at(self.file, node, name, message).into());
            }
            found.push((name_text, self.expand(stage, node, value)?));
        }
        Ok(found)
    }

    /// `80`, `80/udp`, `8000-8010/tcp`, each with its protocol.
    fn ports(&self, stage: &Stage, node: &Node, word: &Word) -> Result<Vec<String>, BuildError> {
        let text = self.expand(stage, node, word)?;
        let (range, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let protocol = protocol.to_ascii_lowercase();
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last))
                if first > 0
                    && first <= last
                    && last - first < PORTS_MOST
                    && matches!(protocol.as_str(), "tcp" | "udp" | "sctp") =>
            {
                Ok((first..=last)
                    .map(|port| format!("{port}/{protocol}"))
                    .collect())
            }
            _ => {
                let mut error = stages::at(self.file, node, word, format!("{text:?} is no port"));
                error.help = Some("EXPOSE 80, EXPOSE 53/udp, EXPOSE 8000-8010".to_owned());
                Err(error.into())
            }
        }
    }
}

/// The words of a command: the exec form as it is, the shell form through the stage's shell.
pub(super) fn argv(stage: &Stage, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(text) => {
            let shell = stage.draft.list("Shell").filter(|words| !words.is_empty());
            let mut words =
                shell.unwrap_or_else(|| SHELL.iter().map(|word| (*word).to_owned()).collect());
            words.push(text.clone());
            words
        }
    }
}
