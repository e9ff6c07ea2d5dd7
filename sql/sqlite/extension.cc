// The extension's door: sqlite3_qkv_init, which SQLite calls when libqkv or qkv is loaded. docs/sql.md tells what it defines.
#include "sql/sqlite/memory_table.h"

extern "C" {

SQLITE_EXTENSION_INIT1

#ifdef __GNUC__
__attribute__((visibility("default")))
#endif
int sqlite3_qkv_init(sqlite3* db, char** error, const sqlite3_api_routines* api) {
  SQLITE_EXTENSION_INIT2(api)
  if (sqlite3_libversion_number() < 3025000) {
    *error = sqlite3_mprintf("qkv needs SQLite 3.25, which has window functions; this is %s",
                             sqlite3_libversion());
    return SQLITE_ERROR;
  }
  int status = qkv::sql::register_scalars(db);
  if (status == SQLITE_OK) status = qkv::sql::register_aggregates(db);
  if (status == SQLITE_OK) status = qkv::sql::register_embed(db);
  if (status == SQLITE_OK) status = qkv::sql::register_memory_table(db);
  return status;
}
}
