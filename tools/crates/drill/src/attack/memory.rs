//! The resident memory of processes, as the kernel counts it.

use anyhow::{Context, Result};
use tandem_local::Process;

use crate::report::Report;

/// The memory of each process: at the start, and the most that was seen.
pub struct Memory {
    processes: Vec<(Process, u64, u64)>,
}

impl Memory {
    /// Begins to watch `processes`.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn start(processes: &[Process]) -> Result<Memory> {
        let look = |it: &Process| resident(it.pid).map(|bytes| (*it, bytes, bytes));
        Ok(Memory { processes: processes.iter().map(look).collect::<Result<_>>()? })
    }

    /// Looks once more.
    ///
    /// # Errors
    /// A process is gone.
    pub fn look(&mut self) -> Result<()> {
        for (process, _, most) in &mut self.processes {
            *most = (*most).max(resident(process.pid)?);
        }
        Ok(())
    }

    /// Tells how much each process grew, which must be less than `growth_max` bytes.
    ///
    /// # Errors
    /// A process is gone.
    pub fn tell(&self, report: &mut Report, growth_max: u64) -> Result<()> {
        for (process, start, most) in &self.processes {
            let end = resident(process.pid)?;
            let growth = end.max(*most).saturating_sub(*start);
            let name = format!("{:?}", process.role);
            report.figure(
                &format!("memory of {name}"),
                format!("{} KiB, at most {}, at the end {}", start >> 10, most >> 10, end >> 10),
            );
            let words = format!("{name} grew by {} KiB", growth >> 10);
            report.demand(growth < growth_max, words);
        }
        Ok(())
    }
}

/// Bytes of `pid` in memory.
fn resident(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    kib(&text).map(|it| it << 10).with_context(|| format!("no VmRSS in {path}"))
}

fn kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    //! Goal: the kernel's word on a process's memory is understood.
    //! Method: its text, and this very process.

    use super::*;

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(kib("Name:\tx\nVmRSS:\t   7012 kB\nThreads:\t1\n"), Some(7_012));
        let own = i32::try_from(std::process::id()).expect("a process number");
        assert!(resident(own).expect("this process runs") > 100 << 10);
    }
}
