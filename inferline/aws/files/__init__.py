"""Descriptions of files and batches on DynamoDB."""
