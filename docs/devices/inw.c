// Reads a 16-bit port, as root in a Linux guest: `inw 0x450`.
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>

int main(int count, char **words) {
  const unsigned long port = count > 1 ? strtoul(words[1], NULL, 0) : 0;
  if (ioperm(port, 2, 1) != 0) {
    perror("inw");
    return 1;
  }
  printf("%u\n", (unsigned)inw((unsigned short)port));
  return 0;
}
