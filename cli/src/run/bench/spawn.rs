//! `cofferdam bench spawn`: a device host up to its first answer, against an empty program.

use super::series::{Placement, Series};
use crate::args::BenchCommon;
use crate::catalogue::BuiltIn;
use crate::machine::planned;
use anyhow::Result;
use std::time::Duration;
use vmm::supervisor::{time_empty_program, time_spawn};

/// Measures starting a host, step by step.
pub fn spawn(common: &BenchCommon) -> Result<Vec<Series>> {
    let empty = "empty static program";
    let mut series = vec![Series::new(empty, Placement::Any, "µs", empty)];
    let mut pss = Series::new("memory of the host (PSS)", Placement::Any, "KiB", "memory of the host (PSS)");
    let mut total = Series::new("spawn to first answered access", Placement::Any, "µs", empty);
    let mut steps: Vec<Series> = Vec::new();
    let device = planned("i8042", Vec::new(), Vec::new());
    // The first of each is slower: the program is read in, the kernel's caches fill.
    for round in 0..=common.rounds {
        let alone = time_empty_program()?;
        let timed = time_spawn(&device, &BuiltIn)?;
        if round == 0 {
            continue;
        }
        series[0].samples.push(micros(alone));
        total.samples.push(timed.steps.iter().map(|(_, time)| micros(*time)).sum());
        pss.samples.push(timed.pss_bytes as f64 / 1024.0);
        for (at, (step, time)) in timed.steps.iter().enumerate() {
            if steps.len() == at {
                steps.push(Series::new(format!("  of it: {step}"), Placement::Any, "µs", empty));
            }
            steps[at].samples.push(micros(*time));
        }
    }
    series.push(total);
    series.extend(steps);
    series.push(pss);
    Ok(series)
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}
