//! What the metaserver says of a cluster, and when nothing is missing.

use std::time::Duration;

use anyhow::{Result, bail};
use tandem::client::Client;
use tandem::protocol::message::{MetaAnswer, MetaRequest};
use tandem::protocol::meta::Status;
use tandem::protocol::view::SetState;

/// How long one question to the metaserver may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The metaserver's own account of the cluster.
///
/// # Errors
/// It does not answer, or refuses.
pub async fn ask(client: &Client) -> Result<Status> {
    match client.ask(MetaRequest::Status, PATIENCE).await? {
        MetaAnswer::Status(status) => Ok(*status),
        other => bail!("the metaserver does not tell its status: {other:?}"),
    }
}

/// Whether every key set is served and has all its copies.
#[must_use]
pub fn is_whole(status: &Status) -> bool {
    let available = |state: SetState| match state {
        SetState::Available => true,
        SetState::Unborn | SetState::Unavailable | SetState::Lost => false,
    };
    !status.sets.is_empty()
        && status.sets.iter().all(|it| available(it.state) && it.open && it.redundant)
}

#[cfg(test)]
mod tests {
    //! Goal: a cluster counts as whole only when each of its key sets is.
    //! Method: statuses made by hand, each lacking one thing.

    use tandem::protocol::meta::SetStatus;
    use tandem::protocol::types::KeySet;

    use super::*;

    #[test]
    fn a_cluster_is_whole_when_every_set_is() {
        let set = |redundant, open, state| SetStatus {
            set: KeySet(0),
            configuration: None,
            state,
            redundant,
            open,
        };
        let good = set(true, true, SetState::Available);
        let whole = |sets| is_whole(&Status { sets, ..Status::default() });
        assert!(whole(vec![good.clone()]));
        assert!(!whole(vec![good.clone(), set(false, true, SetState::Available)]));
        assert!(!whole(vec![good.clone(), set(true, false, SetState::Available)]));
        assert!(!whole(vec![good, set(true, true, SetState::Lost)]));
        assert!(!whole(Vec::new()));
    }
}
