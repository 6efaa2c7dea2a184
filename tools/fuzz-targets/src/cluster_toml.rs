//! `cluster.toml`: any text ends in a good configuration, or in one error that helps.

use tandem::config::{ClusterConfig, ConfigError};

/// A whole file.
pub fn parse(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match ClusterConfig::parse(text, "cluster.toml") {
        Ok(config) => judge(&config),
        Err(ConfigError::Unreadable { .. }) => panic!("nothing was read"),
        Err(error @ ConfigError::Wrong { .. }) => {
            let told = error.to_string();
            let ConfigError::Wrong { line, column, problem, remedy, .. } = error else { return };
            let lines = text.split('\n').count();
            assert!((1..=lines).contains(&line), "line {line} of {lines}: {told}");
            assert!(column >= 1, "{told}");
            assert!(!problem.is_empty() && !remedy.is_empty(), "{told}");
            assert!(told.starts_with("cluster.toml:"), "{told}");
        }
    }
}

/// What every reader of a configuration relies on.
fn judge(config: &ClusterConfig) {
    assert!(config.key_sets() >= 1 && config.replicas() >= 1);
    assert!(config.min_write_copies() <= config.replicas());
    for server in config.servers() {
        assert!(!server.workers.is_empty() && server.workers.len() == server.advertise.len());
        assert_eq!(config.server(server.id).map(|it| it.id), Some(server.id), "two of one number");
    }
    let identities = config.identities();
    for identity in &identities {
        assert_eq!(identity.to_string().parse().as_ref(), Ok(identity));
        let _ = config.credential_files(identity);
    }
    let _ = (config.timing(), config.limits(), config.ca_file());
}
