// Where PostgreSQL, which leaves a function by longjmp when something is wrong, meets C++, which must not be left that way:
//
//   PostgreSQL  →  aggregates.c, scalars.c, values.c  →  this header  →  sums.cc  →  sql/common, src/memory
//
// Only C calls PostgreSQL, and only C++ throws. What is declared here is C++ that catches everything: it returns false and the
// error as text, and its caller raises that by ereport() when no frame of C++ is left on the stack. All that C++ asks of
// PostgreSQL is memory, by pg_allocate() and pg_release(), which never jump: no memory is NULL, and std::bad_alloc from there.
// A Sum lies in the memory context of its aggregate, and so do the blocks it gathers rows into; a reset callback of that context
// calls sum_end(), the destructor, so that the rest (a state's sums, on the heap) goes with it, however the query ends.
#ifndef QKV_SQL_POSTGRES_SEAM_H
#define QKV_SQL_POSTGRES_SEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---- what C gives C++ (values.c)

// `size` bytes of a memory context (NULL: the current one), aligned to 8; NULL where there are none.
void* pg_allocate(void* context, size_t size);
void pg_release(void* memory);

// ---- what C++ gives C (sums.cc); each returns false where `error` says what is wrong

typedef struct SeamError {
  bool no_memory;
  char text[512];
} SeamError;

typedef struct Vector {
  const float* numbers;
  size_t count;
} Vector;

typedef struct Value {  // a vector, or a number
  Vector vector;
  double number;
  bool is_number;
} Value;

// A row of attention() and its kin. What a function does not have is NULL.
typedef struct KeyRow {
  int64_t row;        // what errors call it
  Vector query, key;  // query.numbers NULL: that of the rows before
  const Value* value;
  const double* scale;
  const char* label;  // JSON
  size_t label_size;
  int top;  // best rows that are kept, 0 for none
} KeyRow;

// Bytes in the current memory context: the first `prefix` are the caller's, the size is of all. Nothing to say: bytes is NULL.
typedef struct Answer {
  size_t prefix;
  char* bytes;
  size_t size;
} Answer;

typedef struct Sum Sum;  // what the rows of one aggregate have added up to

// keeps: rows may leave again. NULL where there is no memory.
Sum* sum_begin(void* context, bool keeps);
void sum_end(Sum* sum);
bool sum_add_key(Sum* sum, const KeyRow* row, SeamError* error);
// temperature may be NULL; a value without numbers is logsumexp's.
bool sum_add_score(Sum* sum, int64_t row, double score, const double* temperature,
                   const Value* value, SeamError* error);
bool sum_add_state(Sum* sum, int64_t row, const char* bytes, size_t size, SeamError* error);
bool sum_leave(Sum* sum, SeamError* error);  // the oldest row
bool sum_merge(Sum* sum, Sum* other, SeamError* error);

bool sum_mean(Sum* sum, Answer* vector, SeamError* error);
bool sum_mean_number(Sum* sum, double* number, bool* is_null, SeamError* error);
bool sum_log_sum_exp(Sum* sum, double* number, bool* is_null, SeamError* error);
bool sum_state(Sum* sum, Answer* bytes, SeamError* error);
bool sum_top(Sum* sum, Answer* json, SeamError* error);
bool sum_stats(Sum* sum, Answer* json, SeamError* error);

bool mean_of_state(const char* bytes, size_t size, Answer* vector, SeamError* error);
bool vector_of_json(const char* text, size_t size, Answer* vector, SeamError* error);
bool vector_of_doubles(const double* numbers, size_t count, Answer* vector, SeamError* error);
bool vector_of_vector(Vector numbers, Answer* vector, SeamError* error);
bool json_of_vector(Vector numbers, Answer* json, SeamError* error);
bool json_of_text(const char* text, size_t size, Answer* json, SeamError* error);
bool json_of_number(double number, Answer* json, SeamError* error);

#ifdef __cplusplus
}
#endif

#endif
