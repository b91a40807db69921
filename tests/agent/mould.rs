//! From an image and a plan to an order for the executor, and the identity of what was ordered.

use std::collections::BTreeMap;

use regatta_daemon::identity::Identity;
use regatta_daemon::mould::{self, Defaults, Error, Order, Program};
use regatta_daemon::outcome;
use regatta_image::passwd::User;
use regatta_model::container::{ContainerSpec, Ending, Limits, Network, Writable};
use regatta_model::plan::{AttemptPlan, Command, Keep, StepPlan};
use regatta_model::{AttemptId, Blame, Digest, Outcome};

fn user() -> User {
    User {
        uid: 7,
        gid: 8,
        groups: vec![9],
        home: "/home/t".into(),
    }
}

fn defaults() -> Defaults {
    Defaults {
        env: vec![("LANG".into(), "C".into()), ("A".into(), "image".into())],
        entrypoint: vec!["/entry".into()],
        cmd: vec!["serve".into()],
        user: None,
        workdir: Some("/srv".into()),
    }
}

fn order<'a>(defaults: &'a Defaults, user: &'a User, program: Program) -> Order<'a> {
    Order {
        id: "x".into(),
        defaults,
        layers: vec!["/l".into()],
        program,
        env: vec![("A".into(), "plan".into())],
        user,
        workdir: None,
        network: Network::None,
        mounts: Vec::new(),
        limits: Limits::default(),
        writable: Writable::Disk,
        timeout_ms: 1,
        log: "/log".into(),
        lease_ms: None,
    }
}

fn spec(program: Program) -> Result<ContainerSpec, Error> {
    mould::container(order(&defaults(), &user(), program))
}

#[test]
fn the_entrypoint_is_for_arguments_and_not_for_exact_words() {
    let exactly = Program::Exactly(vec!["/bin/true".into()]);
    assert_eq!(spec(exactly).unwrap().process.argv, ["/bin/true"]);
    let some = Program::Arguments(vec!["--help".into()]);
    assert_eq!(spec(some).unwrap().process.argv, ["/entry", "--help"]);
    assert_eq!(
        spec(Program::Arguments(Vec::new())).unwrap().process.argv,
        ["/entry", "serve"]
    );
    let bare = mould::container(order(
        &Defaults::default(),
        &user(),
        Program::Arguments(Vec::new()),
    ));
    assert_eq!(bare.unwrap_err(), Error::NoCommand);
}

#[test]
fn the_environment_has_each_name_once_and_the_last_word_wins() {
    let process = spec(Program::Exactly(vec!["x".into()])).unwrap().process;
    let env: BTreeMap<_, _> = process.env.iter().cloned().collect();
    assert_eq!(env.len(), process.env.len());
    assert_eq!(env["A"], "plan");
    assert_eq!(env["LANG"], "C");
    assert_eq!(env["HOME"], "/home/t");
    assert_eq!(env["PATH"], mould::PATH);
    assert_eq!(process.workdir, "/srv");
    assert_eq!((process.uid, process.gid), (7, 8));
}

#[test]
fn what_no_process_can_get_is_refused_with_its_name() {
    for (env, part) in [
        (("A=B".to_owned(), String::new()), "A=B"),
        ((String::new(), String::new()), "not empty"),
        (("N".to_owned(), "a\0b".to_owned()), "\"N\""),
    ] {
        let (defaults, user) = (defaults(), user());
        let mut order = order(&defaults, &user, Program::Exactly(vec!["x".into()]));
        order.env.push(env);
        let error = mould::container(order).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let long = Program::Exactly(vec!["x".repeat(2 << 20)]);
    assert!(matches!(spec(long), Err(Error::TooLong { .. })));
}

fn plan() -> AttemptPlan {
    AttemptPlan {
        axes: BTreeMap::from([("python-version".to_owned(), "3.10".to_owned())]),
        image: Digest::of(b"image"),
        files: Vec::new(),
        setup: None,
        test: StepPlan {
            run: Command::Shell("true".into()),
            env: BTreeMap::new(),
            user: None,
            workdir: None,
            timeout_ms: 1000,
            network: Network::None,
        },
        volumes: Vec::new(),
        limits: Limits::default(),
        results: Vec::new(),
        artifacts: Vec::new(),
        keep: Keep::Never,
        shard: None,
    }
}

fn ordered(cell: u64, ordinal: u32) -> ContainerSpec {
    let attempt = AttemptId {
        run: "r".parse().unwrap(),
        cell,
        ordinal,
    };
    let (defaults, user) = (defaults(), user());
    let mut order = order(&defaults, &user, Program::Exactly(vec!["x".into()]));
    order.id = format!("a-{cell}-{ordinal}");
    order.env = mould::attempt_env(&attempt, &plan().axes);
    mould::container(order).unwrap()
}

#[test]
fn a_test_learns_its_run_cell_attempt_and_axes() {
    let env: BTreeMap<_, _> = ordered(5, 2).process.env.into_iter().collect();
    assert_eq!(env["REGATTA_RUN"], "r");
    assert_eq!(env["REGATTA_CELL"], "5");
    assert_eq!(env["REGATTA_ATTEMPT"], "2");
    assert_eq!(env["REGATTA_AXIS_PYTHON_VERSION"], "3.10");
    assert_eq!(env["CI"], "true");
}

#[test]
fn equal_attempts_have_one_identity_and_each_difference_makes_another() {
    let base = plan();
    let identity =
        |plan: &AttemptPlan, spec: &ContainerSpec, setup| Identity::new(plan, spec, setup).digest();
    let one = identity(&base, &ordered(1, 1), None);
    assert_eq!(
        one,
        identity(&base, &ordered(2, 7), None),
        "the attempt's own names are not in it"
    );
    let mut others = vec![identity(&base, &ordered(1, 1), Some(Digest::of(b"setup")))];
    let changes: [fn(&mut ContainerSpec); 7] = [
        |spec| spec.process.argv.push("y".into()),
        |spec| spec.process.env.push(("NEW".into(), "1".into())),
        |spec| spec.process.uid = 1,
        |spec| spec.process.workdir = "/other".into(),
        |spec| spec.limits.memory_bytes = Some(1),
        |spec| spec.timeout_ms = 2,
        |spec| spec.network = Network::Host,
    ];
    for change in changes {
        let mut spec = ordered(1, 1);
        change(&mut spec);
        others.push(identity(&base, &spec, None));
    }
    let image = AttemptPlan {
        image: Digest::of(b"another"),
        ..plan()
    };
    others.push(identity(&image, &ordered(1, 1), None));
    others.push(one);
    let count = others.len();
    others.sort();
    others.dedup();
    assert_eq!(others.len(), count);
}

#[test]
fn endings_are_blamed_on_those_who_made_them() {
    let limited = Limits {
        memory_bytes: Some(1 << 20),
        ..Limits::default()
    };
    let exit = |exit_code| Outcome::Exited { exit_code };
    let text = || "why".to_owned();
    for (ending, outcome, blame) in [
        (Ending::Exited { code: 0 }, exit(0), None),
        (Ending::Exited { code: 3 }, exit(3), Some(Blame::Test)),
        (
            Ending::Signaled { signal: 11 },
            Outcome::Signaled { signal: 11 },
            Some(Blame::Test),
        ),
        (Ending::TimedOut, Outcome::TimedOut, Some(Blame::Test)),
        (Ending::OutOfMemory, Outcome::OutOfMemory, Some(Blame::Test)),
        (Ending::Stopped, Outcome::Cancelled, None),
        (Ending::LeaseEnded, Outcome::HostLost, Some(Blame::Host)),
        (
            Ending::CannotStart { message: text() },
            exit(127),
            Some(Blame::Test),
        ),
        (
            Ending::HostFault { message: text() },
            Outcome::HostLost,
            Some(Blame::Host),
        ),
        (Ending::ExecutorLost, Outcome::HostLost, Some(Blame::Host)),
    ] {
        let judged = outcome::judge(&ending, 1000, &limited);
        assert_eq!(
            (judged.outcome, judged.blame),
            (outcome, blame),
            "{ending:?}"
        );
    }
    let judged = outcome::judge(&Ending::OutOfMemory, 1000, &Limits::default());
    assert_eq!(
        judged.blame,
        Some(Blame::Host),
        "without a limit of its own it was the host's memory"
    );
}
