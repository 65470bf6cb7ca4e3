//! Contenders that are measured in turn, so that what the machine does meanwhile meets them all.

use super::allowed_processors;
use super::series::{Placement, Series};
use crate::args::BenchCommon;
use anyhow::{Context, Result};

/// Where the two sides of a measurement run.
#[derive(Debug, Clone, Copy)]
pub struct Seats {
    /// What this arrangement is called.
    pub placement: Placement,
    /// Processor of the side that asks.
    pub caller: usize,
    /// Processor of the side that answers.
    pub answerer: usize,
}

/// The arrangements that this machine allows: on one processor, and on two where there are two.
pub fn seats() -> Result<Vec<Seats>> {
    let processors = allowed_processors()?;
    let first = *processors.first().context("no processor to run on")?;
    let mut seats = vec![Seats { placement: Placement::Same, caller: first, answerer: first }];
    if let Some(second) = processors.get(1) {
        seats.push(Seats { placement: Placement::Cross, caller: first, answerer: *second });
    }
    Ok(seats)
}

/// Measures once: samples in the unit of its series.
type Measure<'a> = Box<dyn FnMut() -> Result<Vec<f64>> + 'a>;

/// Everything that is measured in each round.
#[derive(Default)]
pub struct Contest<'a>(Vec<(Series, Measure<'a>)>);

impl<'a> Contest<'a> {
    /// Adds a contender, compared with `bases`; times are in nanoseconds.
    pub fn add(
        &mut self,
        name: &str,
        placement: Placement,
        bases: &[&str],
        measure: impl FnMut() -> Result<Vec<f64>> + 'a,
    ) {
        let bases = bases.iter().map(|base| (*base).to_owned()).collect();
        let series = Series { name: name.to_owned(), placement, unit: "ns", bases, samples: Vec::new() };
        self.0.push((series, Box::new(measure)));
    }

    /// Measures everything in every round. Who goes first alternates: a machine that slows down must favour nobody.
    pub fn run(mut self, common: &BenchCommon) -> Result<Vec<Series>> {
        for round in 0..common.rounds {
            if !common.json {
                eprintln!("round {} of {}", round + 1, common.rounds);
            }
            for at in 0..self.0.len() {
                let at = if round % 2 == 0 { at } else { self.0.len() - 1 - at };
                let (series, measure) = &mut self.0[at];
                series.samples.extend(measure().with_context(|| format!("measuring {}", series.name))?);
            }
        }
        Ok(self.0.into_iter().map(|(series, _)| series).collect())
    }
}
