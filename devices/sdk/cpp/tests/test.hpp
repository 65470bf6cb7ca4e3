// Tests that are sentences: `test("what must hold", [] { … })`, and `report` at the end.
#pragma once

#include <cstdio>
#include <exception>
#include <sstream>
#include <stdexcept>
#include <string>

namespace testing {

inline int failures = 0, passes = 0;

template <class T>
std::string shown(const T& value) {
  std::ostringstream text;
  if constexpr (std::is_constructible_v<std::string, T>) {
    text << value;
  } else if constexpr (std::is_enum_v<T>) {
    text << static_cast<long long>(value);
  } else {
    text << +value;
  }
  return text.str();
}

template <class A, class B>
void same(const A& found, const B& wanted, const char* what, int line) {
  if (found == wanted) return;
  throw std::runtime_error("line " + std::to_string(line) + ": " + what + " is " + shown(found) + " and not " + shown(wanted));
}

inline void holds(bool found, const char* what, int line) {
  if (!found) throw std::runtime_error("line " + std::to_string(line) + ": " + what + " does not hold");
}

template <class F>
void test(const char* sentence, F&& act) {
  try {
    act();
    ++passes;
  } catch (const std::exception& error) {
    ++failures;
    std::printf("FAIL %s: %s\n", sentence, error.what());
  }
}

inline int report() {
  std::printf("%d passed, %d failed\n", passes, failures);
  return failures != 0;
}

}  // namespace testing

#define SAME(found, wanted) ::testing::same(found, wanted, #found, __LINE__)
#define HOLDS(found) ::testing::holds(found, #found, __LINE__)
