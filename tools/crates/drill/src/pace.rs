//! Progress bars, and letting time pass under them.

use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Lets `length` pass.
///
/// # Errors
/// There is none.
pub fn pass(length: Duration, bar: &ProgressBar) -> Result<()> {
    const TICK: Duration = Duration::from_millis(200);
    let ticks = length.as_millis().div_ceil(TICK.as_millis());
    for _ in 0..ticks {
        std::thread::sleep(TICK);
        bar.inc(TICK.as_millis() as u64);
    }
    Ok(())
}

/// A progress bar on standard error of `length` steps.
///
/// # Errors
/// There is none.
pub fn bar(what: &str, length: u64) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("  {msg} {wide_bar} {pos}/{len}")?;
    Ok(ProgressBar::new(length).with_style(style).with_message(what.to_owned()))
}
