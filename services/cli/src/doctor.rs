//! `doctor`: what this host lacks, and the command that mends it. May not: change anything.

use std::process::ExitCode;

use crate::context::{Context, Failure};

pub(crate) fn doctor(context: &Context) -> Result<ExitCode, Failure> {
    let mut checks = regatta_executor::doctor();
    checks.extend(regatta_daemon::doctor::doctor(context.data()));
    let lacks = checks.iter().any(|check| !check.ok);
    if context.global.json {
        crate::output::print_json(&checks)?;
    } else {
        let paint = context.paint();
        for check in &checks {
            let word = if check.ok {
                paint.good("ok   ")
            } else {
                paint.bad("lacks")
            };
            anstream::println!("{word}  {:<26} {}", check.name, check.detail);
            if !check.ok && !check.mend.is_empty() {
                anstream::println!("       {:<26} mend: {}", "", check.mend);
            }
        }
    }
    Ok(if lacks {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    })
}
