//! Progress of a load: a bar on a terminal, a line now and then elsewhere.

use forebay_seed::{Progress, Stage};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::say;

/// A log shows this many lines for a stage; a bar would fill it with control characters.
const LINES_PER_STAGE: u64 = 4;

/// How often a bar is drawn; more is only work for the terminal.
const DRAWS_PER_SECOND: u8 = 20;

/// What the bar looks like.
const TEMPLATE: &str = "{msg:>8} [{wide_bar}] {human_pos}/{human_len} {per_sec} {eta}";

/// Shows how far a load has come.
#[derive(Debug)]
pub(super) struct Bar {
    bar: ProgressBar,
    stage: Option<Stage>,
    quarters: u64,
}

impl Bar {
    pub(super) fn new() -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
        let style = ProgressStyle::with_template(TEMPLATE)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("█▉▊▋▌▍▎▏ ");
        let bar = ProgressBar::with_draw_target(Some(0), target).with_style(style);
        Self { bar, stage: None, quarters: 0 }
    }

    pub(super) fn show(&mut self, at: Progress) {
        let name = name(at.stage);
        if self.stage != Some(at.stage) {
            self.stage = Some(at.stage);
            self.quarters = 0;
            self.bar.reset();
            self.bar.set_message(name);
        }
        if self.bar.is_hidden() {
            let quarters = at.done * LINES_PER_STAGE / at.total.max(1);
            if quarters > self.quarters {
                self.quarters = quarters;
                say::warn(&format!("{name}: {} of {}", at.done, at.total));
            }
        } else {
            self.bar.set_length(at.total);
            self.bar.set_position(at.done);
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Tokens => "tokens",
        Stage::Pools => "pools",
    }
}
