"""The backward pass: gradients of a plan, as unrolled ops or as loops over index arrays."""
