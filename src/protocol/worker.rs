//! Stand-in until the real worker lands.
use super::Machine;
use super::effect::{WorkerEffect, WorkerInput};
use super::limits::Limits;
use super::message::Registration;
use super::time::Time;
use super::timing::Timing;
use super::types::{ClusterId, Member, WorkerId};
use super::view::View;

#[derive(Clone, Debug)]
pub struct WorkerSettings {
    pub worker: WorkerId,
    pub timing: Timing,
    pub limits: Limits,
    pub start: Start,
}
#[derive(Clone, Debug)]
pub enum Start {
    Register(Registration),
    Attached { member: Member, cluster: ClusterId, view: View },
}
#[derive(Clone, Debug, Hash)]
pub struct Worker;
impl Worker {
    #[must_use]
    pub fn new(_settings: WorkerSettings) -> Worker {
        Worker
    }
}
impl Machine for Worker {
    type Input = WorkerInput;
    type Effect = WorkerEffect;
    fn handle(&mut self, _: Time, _: WorkerInput, _: &mut Vec<WorkerEffect>) {}
    fn deadline(&self) -> Option<Time> {
        None
    }
}
