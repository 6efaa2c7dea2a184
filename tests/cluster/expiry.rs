//! A client's certificate that expires while the client is connected.
//!
//! Goal: a session goes on, nobody dials with it any more and is told why, and a renewed
//! certificate is taken at once, without a restart of anybody.
//! Method: a cluster on loopback whose client is given a certificate for a few seconds, and then
//! another one; every command that dials tells what it finds.

use std::time::Duration;

use tandem::client::block_on;
use tandem_local::{CLIENT, Plan};

use super::loopback::{WHOLE, client, until_whole};
use super::{TestCluster, wait};

const SHORT: Duration = Duration::from_secs(3);
const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_certificate_that_expires_ends_no_session_and_opens_no_other() {
    let made = TestCluster::start(&Plan::default());
    until_whole(&client(&made));
    made.cluster.renew_client(CLIENT, SHORT).expect("a short-lived certificate");
    let connected = client(&made);
    let session = connected.session();
    block_on(session.put("key", "before")).expect("it is valid yet");
    wait::until("the refusal of an expired certificate", WHOLE, || {
        let got = made.cluster.client(CLIENT).args(["get", "key"]).output().expect("it starts");
        let words = String::from_utf8_lossy(&got.stderr).into_owned();
        if !got.status.success() && words.contains("expired") { Ok(()) } else { Err(words) }
    });
    block_on(session.put("key", "after")).expect("who is connected goes on");
    made.cluster.renew_client(CLIENT, DAY).expect("a certificate for a day");
    let got = made.cluster.client(CLIENT).args(["get", "key"]).output().expect("it starts");
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    assert_eq!(String::from_utf8_lossy(&got.stdout).trim_end(), "after");
}
