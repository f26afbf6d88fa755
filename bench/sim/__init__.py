"""InferLine in virtual time, on stores in memory that bill as AWS does."""
