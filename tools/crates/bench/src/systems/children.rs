//! Processes that a run starts beside the cluster: held by the run, ended with it.

use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow};

/// All of them. Clones share the list.
#[derive(Clone, Debug, Default)]
pub struct Children(Arc<Mutex<Vec<Child>>>);

impl Children {
    fn lock(&self) -> MutexGuard<'_, Vec<Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process; its number.
    ///
    /// # Errors
    /// It can not be started.
    pub fn start(&self, command: &mut Command) -> Result<u32> {
        let program = command.get_program().display().to_string();
        let child = command.spawn().with_context(|| format!("starting {program}"))?;
        let number = child.id();
        self.lock().push(child);
        Ok(number)
    }

    /// Starts a process that says something; its output. Its input ends with this process.
    ///
    /// # Errors
    /// It can not be started.
    pub fn start_talking(&self, command: &mut Command) -> Result<ChildStdout> {
        let program = command.get_program().display().to_string();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {program}"))?;
        let output = child.stdout.take();
        self.lock().push(child);
        output.context("a process without an output")
    }

    /// Fails once process `number` has ended.
    ///
    /// # Errors
    /// It has ended.
    pub fn check(&self, number: u32) -> Result<()> {
        let mut children = self.lock();
        let child = children.iter_mut().find(|it| it.id() == number);
        let child = child.context("it was never started")?;
        match child.try_wait().context("looking after a process")? {
            None => Ok(()),
            Some(status) => Err(anyhow!("the process ended by itself: {status}")),
        }
    }

    /// Kills all and waits until they are gone.
    ///
    /// # Errors
    /// One can not be killed.
    pub fn end(&self) -> Result<()> {
        for mut child in self.lock().drain(..) {
            // A child that ended by itself is only collected.
            if child.try_wait().context("looking after a process")?.is_none() {
                child.kill().with_context(|| format!("killing process {}", child.id()))?;
                child.wait().with_context(|| format!("waiting for process {}", child.id()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: no process outlives its run.
    //! Method: a shell that waits for input that never comes, and one that ends at once.

    use super::*;

    #[test]
    fn processes_end_with_the_run() {
        let children = Children::default();
        let mut waits = Command::new("sh");
        waits.args(["-c", "exec tail -f /dev/null"]).stdin(Stdio::null());
        let number = children.start(&mut waits).expect("a shell");
        children.start(Command::new("sh").args(["-c", "exit 3"])).expect("a shell");
        children.check(number).expect("it waits");
        children.end().expect("killed");
        assert!(!std::path::Path::new(&format!("/proc/{number}")).exists());
        children.check(number).expect_err("it is gone");
    }
}
