//! The test of a matrix: a command, or a tool that is asked for its results in the form that it writes without further packages.
//! May not: put an argument into a shell's text; arguments stay arguments, whatever a template makes of them.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use crate::container::Network;
use crate::plan::ShardUnit;

use super::finding::{Finding, quote};
use super::read::{Map, Read, Reader, Spanned, written};
use super::scalars::Text;
use super::sharded;
use super::tree::{Kind, Node};
use super::written::{Run, Step, Timeout};

/// A tool that a matrix may name in place of `run`.
#[derive(Debug)]
pub(super) struct Tool {
    /// Its key in the matrix.
    key: &'static str,
    /// What `/bin/sh -ec` runs; the arguments are `"$@"`. Its status is the tool's.
    script: &'static str,
    /// The same where it runs one shard of `$TEST_TOTAL_SHARDS`.
    sharded: &'static str,
    /// Its results, below `$REGATTA_RESULTS`.
    pub(super) results: &'static str,
    /// What its plan of shards names, where it takes one.
    unit: ShardUnit,
    /// What its first argument has to be, where it needs one.
    first: Option<&'static str>,
}

/// Every tool, in the order of [`Keys::tools`].
const TOOLS: [Tool; 5] = [
    Tool {
        key: "pytest",
        script: r#"exec pytest --junitxml="$REGATTA_RESULTS/pytest.xml" "$@""#,
        sharded: sharded::PYTEST,
        results: "pytest.xml",
        unit: ShardUnit::Case,
        first: None,
    },
    // Its JUnit needs a file in the repository.
    Tool {
        key: "cargo-nextest",
        script: r#"NEXTEST_EXPERIMENTAL_LIBTEST_JSON=1; export NEXTEST_EXPERIMENTAL_LIBTEST_JSON; exec cargo nextest run --message-format libtest-json-plus "$@" >"$REGATTA_RESULTS/nextest.json""#,
        sharded: sharded::NEXTEST,
        results: "nextest.json",
        unit: ShardUnit::Case,
        first: None,
    },
    Tool {
        key: "go",
        script: r#"exec go test -json "$@" >"$REGATTA_RESULTS/go.json""#,
        sharded: sharded::GO,
        results: "go.json",
        unit: ShardUnit::Package,
        first: None,
    },
    Tool {
        key: "jest",
        script: r#"PATH="$PWD/node_modules/.bin:$PATH"; export PATH; exec jest --ci --json --outputFile="$REGATTA_RESULTS/jest.json" "$@""#,
        // Jest 28 and later.
        sharded: sharded::JEST,
        results: "jest.json",
        unit: ShardUnit::File,
        first: None,
    },
    // CMake 3.21 and later.
    Tool {
        key: "ctest",
        script: r#"exec ctest --output-junit "$REGATTA_RESULTS/ctest.xml" --test-dir "$@""#,
        sharded: sharded::CTEST,
        results: "ctest.xml",
        unit: ShardUnit::Case,
        first: Some("the build directory, such as build"),
    },
];

written! {
    /// The test: `run`, or one of the tools.
    Keys {
        /// A text is run by `/bin/sh -ec`; a list is executed as it is. Takes templates.
        run: "run" => Option<Spanned<Run>>,
        /// Arguments of `pytest`, whose JUnit XML becomes the results. Takes templates.
        pytest: "pytest" => Option<Spanned<Arguments>>,
        /// Arguments of `cargo nextest run`, whose events become the results. Takes templates.
        nextest: "cargo-nextest" => Option<Spanned<Arguments>>,
        /// Arguments of `go test -json`, whose events become the results. Takes templates.
        go: "go" => Option<Spanned<Arguments>>,
        /// Arguments of `jest --json`, whose file becomes the results. Takes templates.
        jest: "jest" => Option<Spanned<Arguments>>,
        /// The build directory and further arguments of `ctest`, whose JUnit XML becomes the results. Takes templates.
        ctest: "ctest" => Option<Spanned<Arguments>>,
        /// Added to the image's environment; takes templates.
        env: "env" => Option<Spanned<Map<Text>>>,
        /// Name or `uid[:gid]`; the image's where it is left away. Takes templates.
        user: "user" => Option<Spanned<Text>>,
        /// An absolute path; the image's where it is left away. Takes templates.
        workdir: "workdir" => Option<Spanned<Text>>,
        /// Then SIGTERM, and after ten seconds SIGKILL; 10m where it is left away.
        timeout: "timeout" => Option<Spanned<Timeout>>,
        /// `none` where it is left away.
        network: "network" => Option<Spanned<Network>>,
    }
}

impl Keys {
    fn tools(&self) -> impl Iterator<Item = (&'static Tool, &Spanned<Arguments>)> {
        let written = [
            &self.pytest,
            &self.nextest,
            &self.go,
            &self.jest,
            &self.ctest,
        ];
        let tools = TOOLS.iter().zip(written);
        tools.filter_map(|(tool, arguments)| Some((tool, arguments.as_ref()?)))
    }
}

/// Arguments of a tool: one, or a list.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Arguments {
    /// One.
    One(Text),
    /// Any number.
    Many(Vec<Spanned<Text>>),
}

impl Read for Arguments {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        const EXPECTED: &str = "one argument, or a list of arguments";
        match &node.kind {
            Kind::List(_) => Read::read(node, reader).map(Self::Many),
            Kind::Map(_) => reader.misfit(node, EXPECTED, None),
            Kind::Scalar(_) => {
                let text = Text(reader.scalar(node, EXPECTED)?.text.clone());
                if text.0.trim().is_empty() {
                    let help = "for no arguments, write []".to_owned();
                    return reader.misfit(node, EXPECTED, Some(help));
                }
                if let Some(words) = words(&text.0) {
                    let message = "a text is one argument, and this one has several words";
                    let help = format!("write [{}]", words.join(", "));
                    let finding = Finding::new(node.at, message).expected(EXPECTED);
                    return reader.refuse(finding.help_if((help.len() < 100).then_some(help)));
                }
                Some(Self::One(text))
            }
        }
    }
}

/// The words of a text that has several; a template is part of one.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut template, mut open) = (vec![String::new()], false, false);
    let mut rest = text.trim();
    while let Some(c) = rest.chars().next() {
        template = (template || rest.starts_with("${{")) && !rest.starts_with("}}");
        let space = c.is_whitespace() && !template;
        if space && open {
            words.push(String::new());
        } else if let (false, Some(word)) = (space, words.last_mut()) {
            word.push(c);
        }
        open = !space;
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    (words.len() > 1).then_some(words)
}

/// The test, with exactly one thing to run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Test(Keys);

impl Read for Test {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let before = reader.findings.len();
        let keys = Keys::read(node, reader)?;
        let mut tools = keys.tools();
        let (first, second) = (tools.next(), tools.next());
        drop(tools);
        let more = match (&keys.run, first, second) {
            (Some(_), Some((tool, at)), _) => Some(("run", tool, at)),
            (None, Some((one, _)), Some((tool, at))) => Some((one.key, tool, at)),
            (None, None, _) if reader.findings.len() > before => return None,
            (None, None, _) => {
                let at = reader.key_at().map_or(node.at, |(_, at)| at);
                let names: Vec<&str> = TOOLS.iter().map(|tool| tool.key).collect();
                let help = format!("add `run: ...`, or one of the tools {}", names.join(", "));
                return reader.refuse(Finding::new(at, "`test` lacks the key `run`").help(help));
            }
            _ => None,
        };
        if let Some((one, tool, at)) = more {
            let message = format!("{} stands beside {}", quote(tool.key), quote(one));
            let finding = Finding::new(at.at, message);
            return reader.refuse(finding.expected("one command, or one tool"));
        }
        if let Some((
            Tool {
                key,
                first: Some(first),
                ..
            },
            at,
        )) = keys.tools().next()
            && matches!(&at.value, Arguments::Many(list) if list.is_empty())
        {
            let message = format!("{} lacks its first argument", quote(key));
            return reader.refuse(Finding::new(at.at, message).expected(*first));
        }
        Some(Self(keys))
    }
}

impl JsonSchema for Test {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Test".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Keys::json_schema(generator);
        let keys = ["run"].into_iter().chain(TOOLS.iter().map(|tool| tool.key));
        let one: Vec<_> = keys
            .map(|key| serde_json::json!({ "required": [key] }))
            .collect();
        schema.insert("oneOf".to_owned(), one.into());
        schema
    }
}

impl super::Matrix {
    /// What a plan of shards names for its test.
    pub fn shard_unit(&self) -> ShardUnit {
        let tool = self.0.written.test.value.tool();
        tool.map_or(ShardUnit::Case, |tool| tool.unit)
    }
}

impl Test {
    /// The tool that it names, where it names one.
    pub(super) fn tool(&self) -> Option<&'static Tool> {
        self.0.tools().next().map(|(tool, _)| tool)
    }

    /// What is run; `sharded`: for one shard of a cell.
    pub(super) fn step(&self, sharded: bool) -> Step {
        let keys = self.0.clone();
        let tool = self.0.tools().next().map(|(tool, arguments)| {
            let at = arguments.at;
            let script = if sharded { tool.sharded } else { tool.script };
            let fixed = ["/bin/sh", "-ec", script, tool.key].into_iter();
            let mut argv: Vec<_> = fixed
                .map(|text| Spanned {
                    at,
                    value: Text(text.to_owned()),
                })
                .collect();
            match &arguments.value {
                Arguments::One(text) => argv.push(Spanned {
                    at,
                    value: text.clone(),
                }),
                Arguments::Many(list) => argv.extend(list.iter().cloned()),
            }
            Spanned {
                at,
                value: Run::Exec(argv),
            }
        });
        let nothing = || Spanned {
            at: super::finding::Spot::default(),
            value: Run::Exec(Vec::new()),
        };
        Step {
            // One of them is there: reading saw to that.
            run: tool.or(keys.run).unwrap_or_else(nothing),
            env: keys.env,
            user: keys.user,
            workdir: keys.workdir,
            timeout: keys.timeout,
            network: keys.network,
        }
    }
}
