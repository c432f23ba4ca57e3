//! Cases: what was seen when somebody was turned away, kept for the page that explains it to them, under a signed link.

use std::sync::Arc;

use crate::outside::Clock;
use crate::store::Memory;

/// Keeps cases. Cloning shares it.
#[derive(Clone)]
pub struct Cases {
    _memory: Memory,
    _clock: Arc<dyn Clock>,
}

impl Cases {
    pub fn new(memory: Memory, clock: Arc<dyn Clock>) -> Cases {
        Cases { _memory: memory, _clock: clock }
    }
}
