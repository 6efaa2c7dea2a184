//! The story that the quick start tells, from the first certificate to the last byte.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tandem::clock;
use tandem::protocol::meta::Status;
use tandem::protocol::placement;
use tandem::protocol::time::{Span, Time};
use tandem::protocol::types::Member;
use tandem_local::status::is_whole;
use tandem_local::{Cluster, Role};

use crate::data::Data;
use crate::files::{self, SourceFile};
use crate::{compare, recovery, spread};

/// Runs the whole story on a cluster that is made and not yet started.
///
/// # Errors
/// Whatever went wrong, in words for a person.
pub async fn tell(cluster: &mut Cluster) -> Result<()> {
    let bytes_max = cluster.config().limits().value_bytes_max as usize;
    let files: Arc<[SourceFile]> = files::sources(Path::new("."), bytes_max)?.into();

    let begun = clock::now();
    cluster.start_all()?;
    let data = Data::start(cluster.config())?;
    let status = whole(&data).await?;
    let servers = status.servers.len();
    let said = format!("a metaserver and {servers} servers, {} key sets", status.sets.len());
    line("start", begun, &said);

    let begun = clock::now();
    let bytes = store(&data, &files).await?;
    line(
        "store",
        begun,
        &format!("{} files, {}, each key its path", files.len(), HumanBytes(bytes)),
    );

    let (victim, owned) = busiest(&data.status().await?, &files)?;
    let process = cluster.process(Role::Server(victim.server))?;
    let server = victim.server.0;
    println!(
        "  kill -9: server {server} (process {}), primary for {owned} of the files",
        process.pid
    );
    let begun = clock::now();
    cluster.kill(Role::Server(victim.server))?;
    let following = recovery::follow(&data, victim);
    let (during, ()) = compare::during(&data, &files, following).await?;
    line("recover", begun, &format!("server {server} is back, with all its copies"));
    println!(
        "  meanwhile: {} reads, every byte right; the longest waited {} ms",
        during.reads,
        during.wait_max.as_millis()
    );

    let begun = clock::now();
    let after = compare::once(&data, &files).await?;
    line("compare", begun, &format!("{} files, every byte right", after.reads));
    Ok(())
}

fn line(step: &str, begun: Time, said: &str) {
    let took: Span = clock::now().since(begun);
    println!("  {step:<10} {:>6} ms   {said}", took.as_millis());
}

/// Waits until every key set is served and has all its copies.
async fn whole(data: &Data) -> Result<Status> {
    loop {
        // Not an error yet: the metaserver may still be starting.
        if let Ok(status) = data.status().await
            && is_whole(&status)
        {
            return Ok(status);
        }
        tokio::time::sleep(recovery::LOOK).await;
    }
}

/// Stores all files and counts their bytes.
async fn store(data: &Data, files: &Arc<[SourceFile]>) -> Result<u64> {
    let style = ProgressStyle::with_template("  store {wide_bar} {pos}/{len} {msg}")
        .context("the progress bar's own template")?;
    let bar = ProgressBar::new(files.len() as u64).with_style(style);
    let bytes = Arc::new(AtomicU64::new(0));
    let (data, shown, count) = (data.clone(), bar.clone(), bytes.clone());
    let put = move |file: SourceFile| {
        let (data, shown, count) = (data.clone(), shown.clone(), count.clone());
        async move {
            count.fetch_add(file.value.len() as u64, Ordering::Relaxed);
            data.write(file.key, file.value).await?;
            shown.inc(1);
            Ok(())
        }
    };
    let stored = spread::over(files.clone(), put).await;
    bar.finish_and_clear();
    stored?;
    Ok(bytes.load(Ordering::Relaxed))
}

/// The server that is primary for most of the files, and for how many.
fn busiest(status: &Status, files: &[SourceFile]) -> Result<(Member, usize)> {
    let count = u16::try_from(status.sets.len()).context("a cluster has at most 4096 key sets")?;
    let primaries: Vec<Member> = files
        .iter()
        .filter_map(|file| {
            let set = placement::key_set(&file.key, count);
            Some(status.sets.get(usize::from(set.0))?.configuration.as_ref()?.primary)
        })
        .collect();
    let owned = |member: Member| primaries.iter().filter(|it| **it == member).count();
    let busiest = primaries.iter().copied().max_by_key(|it| owned(*it));
    let busiest = busiest.context("no server is primary for any file")?;
    Ok((busiest, owned(busiest)))
}
