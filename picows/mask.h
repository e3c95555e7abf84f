#ifndef PICOWS_MASK_H
#define PICOWS_MASK_H

#include <stddef.h>
#include <stdint.h>

/* XOR `size` bytes at `data`, which may have any alignment, with the four mask bytes, beginning with mask byte
   `phase & 3` (RFC 6455 section 5.3). `mask` holds the four bytes in the order in which they stand on the wire. */
typedef void (*picows_mask_fn)(uint8_t* data, size_t size, const uint8_t mask[4], size_t phase);

/* Implementation number `index`, best first, among those that this processor can run; NULL behind the last, which is
   the portable one. `name`, when not NULL, receives what it is called. */
picows_mask_fn picows_mask_implementation(int index, const char** name);

#endif
