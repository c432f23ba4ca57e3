//! Content on its way from the wire into the store.

use bytes::BytesMut;

use crate::config;
use crate::mail::{Reply, SessionId};
use crate::smtp::{DataError, DataReader};
use crate::store::{BodyWriter, ReceivedBody, StoreError};

/// Content is handed to the store in pieces of at least this many bytes.
const PIECE: usize = 16 * 1024;

/// One message while it arrives. Dropped, it leaves nothing behind.
pub(super) struct Content {
    pub(super) reader: DataReader,
    /// Read and not yet handed to the store.
    pub(super) out: BytesMut,
    /// Or why the store does not take any more; what still arrives is then dropped.
    writer: Result<BodyWriter, Reply>,
    sid: SessionId,
}

impl Content {
    pub(super) fn new(settings: &config::Smtp, writer: BodyWriter, sid: SessionId) -> Content {
        let reader = DataReader::new(settings.size_max, settings.header_max, settings.text_line_max);
        Content { reader, out: BytesMut::new(), writer: Ok(writer), sid }
    }

    pub(super) async fn store_when_large(&mut self) {
        if self.out.len() >= PIECE {
            self.store().await;
        }
    }

    async fn store(&mut self) {
        if let Ok(writer) = &mut self.writer
            && let Err(error) = writer.write(&self.out).await
        {
            self.writer = Err(cannot_store(self.sid, &error));
        }
        self.out.clear();
    }

    /// Why this is no message: what the reader found, or else that the store failed.
    pub(super) fn refusal(&self, result: Result<(), DataError>) -> Option<Reply> {
        result.err().map(|error| error.reply()).or_else(|| self.writer.as_ref().err().cloned())
    }

    /// All has arrived.
    pub(super) async fn finish(mut self) -> Result<ReceivedBody, Reply> {
        self.store().await;
        self.writer?.finish().await.map_err(|error| cannot_store(self.sid, &error))
    }
}

/// The sender keeps the message and tries again; the cause is the operator's to read.
fn cannot_store(sid: SessionId, error: &StoreError) -> Reply {
    tracing::error!(%sid, "cannot store a message: {error}");
    match error {
        StoreError::Full => Reply::disk_full(),
        _ => Reply::local_error(),
    }
}
