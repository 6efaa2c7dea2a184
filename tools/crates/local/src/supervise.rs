//! Runs a tool's work within bounds: whatever happens, what it started is ended.
//!
//! The work has a thread of its own; the caller's waits for its end, a signal or the time limit.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Runs `work` until it ends, a signal asks to stop, or `time_max` is over; then `clear` ends
/// what was started, also after a panic: a release aborts on one and runs no destructors.
///
/// # Errors
/// The work's own, why it was cut short, or what could not be cleared.
pub fn supervise<T: Send + 'static>(
    time_max: Duration,
    clear: impl Fn() -> Result<()> + Send + Sync + 'static,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let clear = Arc::new(clear);
    let (on_panic, told) = (clear.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        if let Err(error) = on_panic() {
            eprintln!("not everything was stopped: {error:#}");
        }
    }));
    let ended = wait(time_max, work);
    let cleared = clear();
    ended.and_then(|it| cleared.map(|()| it))
}

fn wait<T: Send + 'static>(
    time_max: Duration,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new().name("work".to_owned()).spawn(move || {
        // Nobody listens any more only when the process is about to end.
        let _ = done.send(work());
    })?;
    runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
        let mut terminated = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        tokio::select! {
            outcome = ended => outcome.map_err(|_| anyhow!("its thread panicked"))?,
            () = tokio::time::sleep(time_max) => bail!("it was not over after {time_max:?}"),
            _ = interrupted.recv() => bail!("interrupted"),
            _ = terminated.recv() => bail!("terminated"),
        }
    })
}
