//! Logs on standard error: `TANDEM_LOG` filters them as `tracing` filters do.

use tracing_subscriber::EnvFilter;

/// Starts logging; `TANDEM_LOG=debug` and the like change what is shown (default `info`).
pub fn start_logs() {
    let filter = EnvFilter::try_from_env("TANDEM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A second start in one process keeps the first: nothing is lost by that.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .try_init();
}
