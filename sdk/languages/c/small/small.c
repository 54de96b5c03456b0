// What there is of C's library. Memory is only ever taken: an instance lives for one exchange, and
// nothing is faster than not freeing.

#include "stdlib.h"
#include "string.h"
#include <stdint.h>

extern uint8_t __heap_base;
static uintptr_t next;

// Each block has its size before it, for `realloc`.
void *malloc(size_t size) {
  if (!next) next = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
  uintptr_t block = next + 16, after = (block + size + 15) & ~(uintptr_t)15;
  if (after < block) return NULL;
  uintptr_t have = __builtin_wasm_memory_size(0) * 65536u;
  if (after > have) {
    size_t pages = (after - have + 65535) / 65536;
    if (__builtin_wasm_memory_grow(0, pages) == (size_t)-1) return NULL;
  }
  next = after;
  ((size_t *)block)[-1] = size;
  return (void *)block;
}

void *calloc(size_t count, size_t size) {
  size_t all;
  if (__builtin_mul_overflow(count, size, &all)) return NULL;
  void *memory = malloc(all);
  return memory ? memset(memory, 0, all) : NULL;
}

void *realloc(void *memory, size_t size) {
  size_t had = memory ? ((size_t *)memory)[-1] : 0;
  if (memory && size <= had) return memory;
  void *more = malloc(size);
  return more && had ? memcpy(more, memory, had) : more;
}

void free(void *memory) { (void)memory; }

void abort(void) { __builtin_trap(); }

void *memcpy(void *to, const void *from, size_t size) {
  for (size_t i = 0; i < size; i++) ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
  return to;
}

void *memset(void *to, int byte, size_t size) {
  for (size_t i = 0; i < size; i++) ((uint8_t *)to)[i] = (uint8_t)byte;
  return to;
}

int memcmp(const void *a, const void *b, size_t size) {
  for (size_t i = 0; i < size; i++) {
    int difference = ((const uint8_t *)a)[i] - ((const uint8_t *)b)[i];
    if (difference) return difference;
  }
  return 0;
}

size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length]) length++;
  return length;
}

char *strchr(const char *text, int c) {
  for (;; text++) {
    if (*text == (char)c) return (char *)(uintptr_t)text;
    if (!*text) return NULL;
  }
}
