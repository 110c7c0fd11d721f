#include "format/encoder.h"

EncoderOptions
encoder_options_default(void)
{
    return (EncoderOptions){.csv = {.header = true}};
}

bool
encoder_rows(Encoder *encoder, const Batch *batch, Err *e)
{
    return encoder->kind->rows(encoder, batch, e);
}

bool
encoder_end(Encoder *encoder, Err *e)
{
    return !encoder->kind->end || encoder->kind->end(encoder, e);
}
