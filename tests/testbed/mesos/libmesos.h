// What the programs here share: libmesos.so, opened at run time, and the layout of the few values that cross its boundary.
//
// There are no Mesos headers or sources. Objects are made through the constructors that libmesos.so exports, in zeroed buffers
// larger than any of the classes; only the layouts below must be right, and they are those of the 1.11.0 build.
#pragma once

#include <cstddef>
#include <new>
#include <string>

// How a std::string stands in a mangled name.
#define STRING_SYMBOL "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"

// stout's Option<T>: { enum { SOME = 0, NONE = 1 }; union { T } }.
template <class T>
struct Option {
  int state;
  union {
    T value;
  };
  Option() : state(1) {}
  Option(const T& t) : state(0) { new (&value) T(t); }
  Option(const Option& other) : state(other.state) {
    if (other.some()) new (&value) T(other.value);
  }
  Option& operator=(const Option&) = delete;
  ~Option() {
    if (some()) value.~T();
  }
  bool some() const { return state == 0; }
};

using OptionalString = Option<std::string>;

// stout's Duration.
struct Duration {
  long nanoseconds;
};

// stout's Try<T*>, which functions return through a hidden first argument.
struct TryPointer {
  int state = 0;
  void* pointer = nullptr;
  int error_state = 0;
  alignas(8) char error[64] = {};

  // The pointer; ends the program with the error if there is none.
  void* get(const char* what) const;
};

// Opens libmesos.so: $LIBMESOS, or the one in the directory above this program's. Ends the program if it cannot.
void open_libmesos();

// The directory that this program lies in.
std::string program_directory();

// The address of an exported symbol; ends the program if there is none.
void* symbol_address(const char* name);

template <class F>
F symbol(const char* name) {
  return reinterpret_cast<F>(symbol_address(name));
}

template <class F>
F symbol(const std::string& name) {
  return symbol<F>(name.c_str());
}

// Zeroed memory for an object of a class that we cannot see, never freed. Pages that are not touched cost nothing.
void* room(size_t bytes = 1 << 15);

// FlagsBase::load: <prefix><NAME> of the environment and --name=value. Ends the program with the message if a flag is wrong.
void load_flags(void* flags_base, const char* prefix, int argc, char** argv, bool allow_unknown);
