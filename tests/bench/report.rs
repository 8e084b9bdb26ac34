//! The output: one line per figure for people, and the same as JSON for programs.

use std::path::Path;

use serde_json::{Value, json};

use crate::load::Run;

/// What a figure must not be above or below.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Value>,
    missed: usize,
}

impl Report {
    /// A figure from several runs: their median counts.
    pub(crate) fn add(&mut self, name: &str, unit: &str, runs: &[f64], target: Option<Target>) {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(low), Some(high)) = (sorted.first(), sorted.last()) else { return };
        let middle = |place: usize| sorted.get(place).copied().unwrap_or(*low);
        let median = f64::midpoint(middle((sorted.len() - 1) / 2), middle(sorted.len() / 2));
        let met = target.map(|target| match target {
            Target::AtMost(limit) => median <= limit,
            Target::AtLeast(limit) => median >= limit,
        });
        self.missed += usize::from(met == Some(false));
        let verdict = match (target, met) {
            (Some(target), Some(met)) => {
                let (sign, limit) = match target {
                    Target::AtMost(limit) => ("≤", limit),
                    Target::AtLeast(limit) => ("≥", limit),
                };
                format!("{sign} {:<9} {}", shown(limit), if met { "met" } else { "MISSED" })
            }
            _ => String::new(),
        };
        let spread = match sorted.len() {
            1 => String::new(),
            count => format!("[{} – {}, {count} runs]", shown(*low), shown(*high)),
        };
        println!("{name:<58} {:>10} {unit:<13} {verdict:<18} {spread}", shown(median));
        self.figures.push(json!({
            "name": name, "unit": unit, "value": median, "low": low, "high": high,
            "runs": sorted.len(), "target": target.map(|target| match target {
                Target::AtMost(limit) => json!({ "at_most": limit }),
                Target::AtLeast(limit) => json!({ "at_least": limit }),
            }), "met": met,
        }));
    }

    /// A figure of one measurement.
    pub(crate) fn one(&mut self, name: &str, unit: &str, value: f64, target: Option<Target>) {
        self.add(name, unit, &[value], target);
    }

    /// What one request cost the processes.
    pub(crate) fn costs(&mut self, name: &str, runs: &[Run]) {
        for (place, process) in ["chatto", "nats-server", "generator"].into_iter().enumerate() {
            let all = |of: &dyn Fn(&Run) -> [f64; 3]| {
                runs.iter().map(|run| of(run)[place]).collect::<Vec<f64>>()
            };
            let name = |what: &str| format!("{name}{process} {what}");
            self.add(&name("CPU"), "µs/request", &all(&Run::cpu), None);
            if process != "generator" {
                self.add(&name("switches"), "per request", &all(&Run::switches), None);
            }
        }
    }

    /// Answers other than 200; there must be none.
    pub(crate) fn errors(&mut self, name: &str, runs: &[Run]) {
        let errors: usize = runs.iter().map(|run| run.errors).sum();
        self.one(&format!("{name}errors"), "", errors as f64, Some(Target::AtMost(0.0)));
        if let Some(error) = runs.iter().find_map(|run| run.first_error.as_ref()) {
            println!("  the first error: {error}");
        }
    }

    /// A headline of the figures that follow.
    pub(crate) fn part(&self, title: &str) {
        println!("\n{title}");
    }

    /// Writes the JSON and says how many targets were missed.
    pub(crate) fn finish(self, machine: &Value, file: &Path) {
        let all = json!({ "machine": machine, "figures": self.figures });
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, serde_json::to_string_pretty(&all).unwrap()).unwrap();
        println!("\n{} targets missed; the same as JSON: {}", self.missed, file.display());
    }
}

/// A number with as many digits as say something.
fn shown(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
