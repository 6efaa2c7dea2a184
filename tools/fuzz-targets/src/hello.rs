//! `Hello`: both judges that stand before a link, for every party and every accepting side.

use bytes::Bytes;
use tandem::identity::{Identity, META_ID, PartyRole};
use tandem::protocol::message::Purpose;
use tandem::protocol::types::{ClusterId, Incarnation, Member, ServerId};
use tandem::wire::*;

/// A byte that says whose certificate it is, one that says who accepts, then a body of `Hello`.
pub fn judge(data: &[u8]) {
    let [party, accepting, body @ ..] = data else { return };
    let body = Bytes::copy_from_slice(body);
    let Ok(hello) = decode_hello(&FrameBuf { kind: Kind::Hello, request: 0, body }) else { return };
    let role = PartyRole::ALL[usize::from(party % 4)];
    let id = match role {
        PartyRole::Meta => META_ID.to_owned(),
        PartyRole::Server => (1 + party / 4).to_string(),
        PartyRole::Client | PartyRole::Admin => "app".to_owned(),
    };
    let party = Identity::new("c", role, &id).expect("a good name");
    let member = Member { server: ServerId(u16::from(accepting / 4)), incarnation: Incarnation(1) };
    let local = Local {
        cluster: if accepting % 2 == 0 { ClusterId::default() } else { ClusterId([1; 16]) },
        member: (accepting / 2 % 2 == 0).then_some(member),
    };
    let admitted = match check_party(&party, &hello).and_then(|()| local.admit(&hello)) {
        Ok(admitted) => admitted,
        // The refusal travels, and is told to a person.
        Err(refusal) => {
            assert!(!refusal.to_string().is_empty());
            let mut buffer = bytes::BytesMut::new();
            let encoded = encode_hello_refused(&mut buffer, &Limits::default(), &refusal);
            return assert_eq!(encoded, Ok(()), "a refusal that does not fit: {refusal:?}");
        }
    };
    let range = hello.version_min..=hello.version_max;
    assert!(range.contains(&admitted.version) && admitted.version >= VERSION_MIN);
    assert!(admitted.version <= VERSION_MAX);
    let dials_as_server = hello.purpose != Purpose::Client;
    assert_eq!(dials_as_server, role == PartyRole::Server, "{role} admitted for {hello:?}");
    assert_eq!(hello.from.map(|it| it.server), party.server_id(), "{hello:?} claims another");
    let anyone = hello.purpose == Purpose::Client && hello.to.is_none();
    assert!(anyone || hello.to == local.member, "{hello:?} was meant for somebody else");
}
