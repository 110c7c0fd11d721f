/* format/csv keeps what every encoder promises. */
#include "test/contract/encoder_contract.h"

extern const EncoderKind format_csv;

int
main(void)
{
    return encoder_contract("format_csv", &format_csv);
}
