//! Clients' attempts at servers, and what they are answered.

use tandem::protocol::effect::{Ticket, WorkerInput};
use tandem::protocol::message::Answer;
use tandem::sim::Process;
use tandem::sim::truth::{Ending, Fact, OperationId};

use super::act::Action;
use super::client::{self, Fate, READER};
use super::judge::SET;
use super::{World, both_answer};

impl World {
    pub(super) fn list_client_actions(&self, actions: &mut Vec<Action>) {
        for server in 0..self.places.len() {
            let Some(node) = self.node(server) else { continue };
            for (client, it) in self.clients.iter().enumerate() {
                if it.left > 0 {
                    actions.push(Action::Try { client, server });
                }
            }
            if self.slow_reads > 0 && !node.unanswered.contains_key(&READER) {
                actions.push(Action::Read(server));
            }
        }
    }

    /// A client tries its write at a server. Whoever refuses at once leaves everything as it was,
    /// and that attempt is not counted.
    pub(super) fn attempt(&mut self, client: usize, server: usize) -> bool {
        let what = self.plan.writes[client].what;
        let operation = client::operation(client, what);
        if self.clients[client].fate == Fate::Wished {
            self.clients[client].fate = Fate::Begun;
            let operation_id = OperationId(client as u64);
            self.learn(&Fact::Invoked { operation: operation_id, set: SET, what: &operation });
        }
        let ticket = client::ticket(client, self.clients[client].left);
        self.clients[client].left -= 1;
        self.clients[client].open += 1;
        let before = self.clients[client];
        self.feed(server, WorkerInput::Request { ticket, request: client::write(client, what) });
        let after = self.clients[client];
        let refused = after.open < before.open && after.unsure == before.unsure;
        !(refused && after.fate == Fate::Begun) || self.violation.is_some()
    }

    /// A read begins whose store takes its time.
    pub(super) fn read_slowly(&mut self, server: usize) -> bool {
        self.slow_reads -= 1;
        let request = client::read();
        self.feed(server, WorkerInput::Request { ticket: READER, request });
        let waits = self.node(server).is_some_and(|it| it.unanswered.contains_key(&READER));
        waits || self.violation.is_some()
    }

    /// The store has done the oldest read.
    pub(super) fn stored(&mut self, server: usize) -> bool {
        let done = self.node_mut(server).and_then(|it| it.reading.pop_front());
        let Some(done) = done else { return false };
        self.feed(server, done);
        true
    }

    pub(super) fn reply(
        &mut self,
        server: usize,
        process: Process,
        ticket: Ticket,
        answer: &Answer,
    ) {
        let request = self.node_mut(server).and_then(|it| it.unanswered.remove(&ticket));
        let Some(request) = request else { return };
        self.learn(&Fact::Answered { process, set: SET, request: &request, answer });
        if ticket == READER {
            return self.judge_slow_read(server, answer);
        }
        let Some(index) = client::client_of(ticket) else { return };
        let operation = OperationId(index as u64);
        let write = Some(client::write_id(index));
        let client = &mut self.clients[index];
        client.open -= 1;
        match answer {
            Answer::Refused(_) => {}
            Answer::Moved { .. } | Answer::Forgotten { .. } => client.unsure = true,
            _ if client.fate == Fate::Begun => {
                client.fate = Fate::Ended;
                let ending = Ending::Done(answer);
                self.learn(&Fact::Ended { operation, write, ending });
            }
            _ => {}
        }
        self.give_up(index);
    }

    /// A read that took its time is answered: rightly, and while nobody else answers any.
    fn judge_slow_read(&mut self, server: usize, answer: &Answer) {
        if let Err(violation) = self.judge.judge_read(server, answer) {
            self.violated(violation);
        }
        let is_read = matches!(answer, Answer::Found { .. } | Answer::Absent { .. });
        let other = (0..self.places.len())
            .find(|&other| other != server && self.places[other].answer.is_some());
        if let (true, Some(other)) = (is_read, other) {
            self.violated(both_answer(server, other));
        }
    }

    /// A client whose every attempt was refused knows that its write is not done.
    fn give_up(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let over = client.left == 0 && client.open == 0 && !client.unsure;
        if over && client.fate == Fate::Begun {
            client.fate = Fate::Ended;
            let (operation, ending) = (OperationId(index as u64), Ending::NotDone);
            let write = Some(client::write_id(index));
            self.learn(&Fact::Ended { operation, write, ending });
        }
    }

    /// The answers of a process that is gone never come.
    pub(super) fn forget_attempts(&mut self, tickets: impl Iterator<Item = Ticket>) {
        for ticket in tickets {
            if let Some(client) = client::client_of(ticket) {
                self.clients[client].open -= 1;
                self.clients[client].unsure = true;
            }
        }
    }
}
