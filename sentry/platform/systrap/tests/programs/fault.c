int main(void) { asm volatile("mov $0x1111222233334444,%rbx; mov $0x5555,%r15; mov $0x1234,%edi; mov (%rdi),%eax"); return 0; }
