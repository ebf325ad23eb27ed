#include "libmesos.h"

#include <dlfcn.h>
#include <limits.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

using std::string;

static void* library;

void* TryPointer::get(const char* what) const {
  if (state == 0) return pointer;
  fprintf(stderr, "%s: %s\n", what, reinterpret_cast<const string*>(error)->c_str());
  exit(1);
}

string program_directory() {
  char path[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  string program(path, length > 0 ? length : 0);
  return program.substr(0, program.rfind('/'));
}

void open_libmesos() {
  const char* given = getenv("LIBMESOS");
  string path = given ? given : program_directory() + "/../libmesos.so";
  library = dlopen(path.c_str(), RTLD_LAZY | RTLD_GLOBAL);
  if (library) return;
  fprintf(stderr, "%s\n", dlerror());
  exit(1);
}

void* symbol_address(const char* name) {
  void* address = dlsym(library, name);
  if (address) return address;
  fprintf(stderr, "symbol %s: %s\n", name, dlerror());
  exit(1);
}

void* room(size_t bytes) {
  void* memory = calloc(1, bytes);
  if (!memory) abort();
  return memory;
}

void load_flags(void* flags_base, const char* prefix, int argc, char** argv, bool allow_unknown) {
  // Try<Warnings>: the error string stands 40 bytes in.
  alignas(16) static char result[4096];
  OptionalString environment_prefix{string(prefix)};
  using Load = void (*)(void*, void*, OptionalString*, int, char**, bool, bool);
  symbol<Load>("_ZN5flags9FlagsBase4loadERK6OptionI" STRING_SYMBOL "EiPKPKcbb")(
      result, flags_base, &environment_prefix, argc, argv, allow_unknown, false);
  if (*reinterpret_cast<int*>(result) == 0) return;
  fprintf(stderr, "Failed to load flags: %s\n", reinterpret_cast<string*>(result + 40)->c_str());
  exit(1);
}
