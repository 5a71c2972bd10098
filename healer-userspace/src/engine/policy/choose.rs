//! Which policy owns a workload, and which rule answers a diagnosis.
